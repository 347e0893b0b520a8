"""Scoring in a process of one's own: the newest verified weights, and state read from Redis as of now."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import redis

from learner.samples.columns import Samples
from learner.snapshot import Part, Scores
from learner.targets import expected_by_task
from state_store.client import script
from state_store.entities.packed import PackedReads
from state_store.errors import OperatorError
from state_store.keys import Keys
from state_store.weights import Manifest, WeightStore
from stream.events import RawFeature
from stream.partitioning import partition_of
from stream.process.store import kept_histories
from stream.serving.clock import asked_ms
from stream.serving.packing import Candidate, Packing
from stream.serving.versions import Versions
from stream.settings import Settings


class NoWeightsError(OperatorError):
    """Nothing has been published yet."""


class UnknownTaskError(OperatorError):
    """A score is asked for that no model gives."""


class Scorer:
    """Scores items for a user (y_adapt, AdaF2M2, eq. 4).

    Args:
        settings: those of the learner that publishes.
        client: Redis.

    Any thread may score while another one refreshes: a call keeps the weights that it began with.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._num_partitions = settings.kafka.partitions
        self._packing = Packing(settings)
        self._reads = packed_reads(settings)
        self._read_state = script(client, "read_state")
        self.versions = Versions(WeightStore(client, settings.redis.prefix), settings.recipe)
        self.tasks: tuple[str, ...] = settings.learned_tasks
        """Tasks that have a score."""

    @property
    def manifest(self) -> Manifest | None:
        """Of the weights in use."""
        return self.versions.manifest

    def refresh(self) -> bool:
        """Load the newest weights if there are newer ones; returns whether it did.

        Raises:
            WeightsError: a blob is missing or damaged; the weights in use stay.
        """
        return self.versions.refresh()

    def score(
        self,
        user_id: str,
        user_features: Mapping[str, RawFeature],
        candidates: Sequence[Candidate],
        task: str = "",
        *,
        ts: int | None = None,
    ) -> np.ndarray:
        """Probability of a positive label per candidate, shape (len(candidates),).

        Args:
            user_id: who would see them.
            user_features: as an impression would carry them.
            candidates: the items.
            task: whose label; empty: the main task's.
            ts: when they would be shown, event time, ms; None: now (`stream/serving/clock.py`).

        Raises:
            NoWeightsError: `refresh` has found no weights so far.
            UnknownTaskError: the model does not learn the task.
        """
        return self.scores(user_id, user_features, candidates, task, ts=ts).predictions_B

    def scores(
        self,
        user_id: str,
        user_features: Mapping[str, RawFeature],
        candidates: Sequence[Candidate],
        task: str = "",
        *,
        ts: int | None = None,
    ) -> Scores:
        """The same, with the score to order candidates by, and those of every task, where all of them are learned."""
        if task and task not in self.tasks:
            raise UnknownTaskError(f"task {task!r} has no score; the model learns {list(self.tasks)}")
        self._need_weights()
        with self.versions.reading() as current:
            assert current is not None
            samples = self._samples(
                user_id, user_features, candidates, asked_ms(ts, current.manifest, self._settings.join)
            )
            scores = current.model.predict(samples)
        if scores.predictions_BT is None or scores.ranks_BT is None:
            return scores
        n = self.tasks.index(task or self._settings.main_task.name)
        return msgspec.structs.replace(scores, predictions_B=scores.predictions_BT[:, n], ranks_B=scores.ranks_BT[:, n])

    def score_tasks(
        self,
        user_id: str,
        user_features: Mapping[str, RawFeature],
        candidates: Sequence[Candidate],
        *,
        ts: int | None = None,
    ) -> dict[str, np.ndarray]:
        """What is expected of each candidate, by task, of every task that is learned.

        The probability of a positive label; of a task with `value_unit`, the value itself, as seconds watched.
        """
        scores = self.scores(user_id, user_features, candidates, ts=ts)
        if scores.predictions_BT is None:
            return {self.tasks[0]: scores.predictions_B}
        return expected_by_task(scores.predictions_BT, self._settings.recipe.tasks)

    def explain(
        self, user_id: str, item_id: str, features: Mapping[str, RawFeature] | None = None, *, ts: int | None = None
    ) -> list[Part]:
        """The parts of the logit for a user and an item as they stand now, with the weight that state gives each.

        Raises:
            NoWeightsError: nothing has been published yet.
        """
        self._need_weights()
        with self.versions.reading() as current:
            assert current is not None
            at_ms = asked_ms(ts, current.manifest, self._settings.join)
            return current.model.explain(self._samples(user_id, features or {}, [Candidate(item_id)], at_ms))

    def _need_weights(self) -> None:
        if self.manifest is None and not self.refresh():
            raise NoWeightsError("no weights are published yet; start a learner and wait for its first publish")

    def _samples(
        self, user_id: str, user_features: Mapping[str, RawFeature], candidates: Sequence[Candidate], at_ms: int
    ) -> Samples:
        """One sample per candidate, with the state of user and item as of now."""
        item_ids = [candidate.item_id for candidate in candidates]
        columns = self._packing.columns(user_features, candidates)
        keys, args = self._reads.ask(partition_of(user_id, self._num_partitions), user_id, item_ids)
        state = self._reads.read(self._read_state(keys=keys, args=args))
        return self._packing.samples(at_ms, user_id, item_ids, columns, state)


def packed_reads(settings: Settings) -> PackedReads:
    """How the state of a pipeline is read."""
    histories = kept_histories(settings.recipe.layout)
    return PackedReads(Keys(settings.redis.prefix), settings.actions.counted, histories)


__all__ = ["Candidate", "NoWeightsError", "Scorer", "UnknownTaskError", "packed_reads"]
