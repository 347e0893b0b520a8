"""An arm behind Kafka and HTTP, and when the world waits for it.

Strictly: each slice of a topic is written and applied before the next one is written; after a round, a step of the
world, it waits until the learner has learned all that the join has let go, but for a deep part's micro-batch that is
not full, has published, has written norms, and the scorer serves that. Then nothing is left to timing, and the
decisions are those of one process.
Loosely: until the round's records are applied, and no longer.
"""

import urllib.request
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import msgspec
import numpy as np
import polars as pl
import redis

from simulators.abtest.feed import Feed
from simulators.abtest.live.asking import Asker
from simulators.abtest.run import TrialSettings
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.world.items import NONE
from simulators.world.rows import feedback_of
from simulators.world.world import Visits, World
from state_store.outbox import Outbox
from state_store.rollout import Rollout
from state_store.weights import WeightStore
from stream.command.roles import Role, wait_until
from stream.process.status import read_status
from stream.process.store import open_store
from stream.serving.address import serving_url
from stream.settings import Settings

_FROZEN = "the arm is frozen for the rest of the test"
_LOOK_S = 0.003


class LiveSide:
    """Writes, waits, asks.

    Args:
        world: who asks, and what there is.
        settings: of the arm's processes.
        how: of the test.
        client: Redis.
        roles: the arm's processes, which must not end meanwhile.
    """

    def __init__(
        self, world: World, settings: Settings, how: TrialSettings, client: redis.Redis, roles: Sequence[Role]
    ) -> None:
        self._settings, self._how, self._client, self._roles = settings, how, client, roles
        prefix = settings.redis.prefix
        self._store, self._weights = open_store(settings, client), WeightStore(client, prefix)
        self._outbox = Outbox(client, prefix, 1)
        self._feed = Feed(feedback_of(world.parameters), how.slice_s * 1000)
        self._producer = ReplayProducer(settings.kafka, PaceSettings())
        self._url = serving_url(settings.serving)
        self._asker = Asker(self._url, world)
        self._batch = settings.learner.micro_batch if how.strict and settings.recipe.has_deep else 1
        """With fewer samples than this left, the learner has learned what it can."""
        self._is_frozen = False
        self.version = 0
        """Of the weights that the scorer was seen to serve; 0: nobody has asked it yet."""

    @property
    def num_degraded(self) -> int:
        """Requests that were answered without the state of user and items."""
        return self._asker.num_degraded

    def scores(self, visits: Visits, slots_VC: np.ndarray) -> np.ndarray:
        """Rank scores of the candidates that there are, visit by visit; zeros before the first round is learned."""
        if not self.version:
            return np.zeros(int((slots_VC != NONE).sum()), np.float32)
        return self._asker.scores(visits, slots_VC)

    def learn(self, rows: pl.DataFrame, now_ms: int, *, publishes: bool) -> None:
        """Write what was shown and what has happened by now, and wait as is said above."""
        if not publishes and not self._is_frozen:
            # Before anything new is learned.
            self._weights.rollouts.update(_frozen)
            self._is_frozen = True
        self._feed.add(rows)
        for batch in self._feed.until(now_ms):
            self._producer.write(batch)
            if self._how.strict:
                self._wait_until_applied()
        self._wait_until_applied()
        if publishes and (self._how.strict or not self.version):
            self._wait(self._is_served, "what was learned to be served")

    # Waiting --------------------------------------------------------------------------------------------------------

    def _wait_until_applied(self) -> None:
        ends, topics = self._producer.end_offsets(), self._settings.topics

        def applied() -> bool:
            offsets = self._store.fence_offsets([0])[0]
            return all(offsets[topics[topic]] >= end for (topic, _), end in ends.items())

        self._wait(applied, "the worker to apply what was written")

    def _is_served(self) -> bool:
        manifest = self._weights.latest()
        if manifest is None or not self._has_learned_all(manifest.learned) or not self._has_norms():
            return False
        served = self._served_version()
        if served < manifest.version:
            return False
        self.version = served
        return True

    def _has_learned_all(self, cursor: Mapping[str, int]) -> bool:
        return self._outbox.sequences()[0] - cursor.get("0", 0) < self._batch

    def _has_norms(self) -> bool:
        """Whether the state has the norms of what was learned, which a deep part's adapter is told by it."""
        if not self._settings.recipe.has_deep or not self._how.strict:
            return True
        status = read_status(self._client, self._settings.redis.prefix)
        return status is not None and self._has_learned_all(status.cursor) and status.num_at_norms == status.num_trained

    def _served_version(self) -> int:
        try:
            with urllib.request.urlopen(f"{self._url}v1/weights") as reply:
                return int(msgspec.json.decode(reply.read())["version"])
        except OSError:
            # It does not listen yet, or has no weights; if it has ended, that is told.
            return 0

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        wait_until(done, what, self._roles, progress=self._progress, poll_s=_LOOK_S)

    def _progress(self) -> object:
        manifest = self._weights.latest()
        return self._store.fence_offsets([0])[0], manifest.num_samples if manifest else 0

    def close(self) -> None:
        """Let go of connections."""
        self._asker.close()
        self._producer.close()

    def __enter__(self) -> "LiveSide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _frozen(rollout: Rollout) -> Rollout:
    return msgspec.structs.replace(rollout, hold=_FROZEN)
