"""A learner as a process judges what was served: it promotes, survives a crash with its trial, and reverts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import redis
from support.columns import columns
from support.samples import Samples, make_samples

from state_store.rollout import Rollout, RolloutStore
from stream.command.roles import Role, wait_until
from stream.process.status import CanaryStatus, read_status
from stream.settings import Settings

_WANTED = 200
_YOUNG = 1_000_000
"""A version that is published after every other one of the test."""


class Shop(Samples):
    """Labels of what a scorer served to its canary users."""

    def serve(self, count: int, worse: float, version: int = _YOUNG) -> None:
        """So many users, whom the newest weights gave a probability that is by so much worse than the stable ones'."""
        samples = make_samples(count, seed=self.num, first=self.num)
        samples = [
            msgspec.structs.replace(s, core=msgspec.structs.replace(s.core, user_id=f"c{self.num}-{n}"))
            for n, s in enumerate(samples)
        ]
        whole = columns(samples, self.settings.fields, self.settings.actions.names)
        rows, rng = whole.rows_B, np.random.default_rng(self.num)
        off_N = np.where(rows["label"] > 0, -worse, worse) + rng.normal(0, 0.01, count)
        rows["served_other"], rows["served_probability"] = 0.5, 0.5 + off_N
        rows["served_version"], rows["served_canary"] = version, True
        self.num += count
        self.client.xadd(self.keys.outbox(0), {"s": whole.encode()}, f"{self.num}-0")
        self.client.hset(self.keys.fence(0), "seq", self.num)

    def trial(self) -> CanaryStatus:
        """How far it is."""
        canary = self.status().canary
        assert canary is not None
        return canary


def settings_of(settings: Settings) -> Settings:
    publish = msgspec.structs.replace(
        settings.publish, interval_s=0.2, full_every=2, keep_every_s=0.0, checkpoint_s=0.5
    )
    serving = msgspec.structs.replace(settings.serving, canary_share=0.5, canary_outcomes=_WANTED)
    return msgspec.structs.replace(settings, publish=publish, serving=serving)


def to_a_second_trial(
    shop: Shop, rollouts: RolloutStore, until: Callable[[Callable[[], bool], str], None]
) -> tuple[Rollout, CanaryStatus]:
    """A first trial ends well, and a second one has 60 outcomes: what it is about, and how far it is."""
    shop.put(200)
    until(lambda: rollouts.read().candidate > 0, "a candidate")
    first = rollouts.read()
    shop.put(20)
    until(lambda: shop.version() > first.since, "a version on trial")
    shop.serve(_WANTED + 20, worse=0.0, version=first.since + 1)
    until(lambda: rollouts.read().stable > first.stable, "a promotion")
    assert rollouts.read().stable == first.candidate
    until(lambda: rollouts.read().candidate > first.candidate, "the next candidate")
    until(lambda: shop.trial().outcomes == 0, "the next trial")
    shop.serve(60, worse=0.02)
    until(lambda: shop.trial().outcomes == 60, "evidence")
    return rollouts.read(), shop.trial()


def test_a_learner_promotes_and_reverts_and_a_crash_costs_no_evidence(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    settings = settings_of(settings)
    shop, rollouts = Shop(client, settings), RolloutStore(client, settings.redis.prefix)
    learner = Role("learner", settings, tmp_path)
    until = partial(wait_until, roles=[learner], stalled_after_s=90)

    with learner:
        asked, before = to_a_second_trial(shop, rollouts, until)
        # A checkpoint that knows of it: the outbox is trimmed behind it.
        until(lambda: shop.waiting() == 0 or shop.learned() == shop.num, "training")
        number = len(list((tmp_path / "predictions").glob("*.parquet")))
        shop.put(20)
        until(lambda: len(list((tmp_path / "predictions").glob("*.parquet"))) > number, "a checkpoint")
        learner.kill()
        learner.start()
        until(lambda: shop.status().num_trained == shop.num, "the next learner")
        until(lambda: shop.trial().outcomes == 60, "its evidence")
        assert shop.trial() == before
        shop.serve(100, worse=0.3)
        until(lambda: rollouts.read().pinned > 0, "a revert")
        after = rollouts.read()
        assert (after.pinned, after.stable) == (asked.stable, asked.stable)
        assert [d.what for d in after.decisions] == ["promote", "promote", "revert", "hold"]
        assert "log-loss" in after.hold
        until(lambda: "canary" in shop.status().held_back, "publishing held")
        version = shop.version()
        shop.put(20)
        until(lambda: shop.status().num_trained == shop.num, "training goes on")
        assert shop.version() == version
    assert "revert" in learner.log.read_text(encoding="utf-8")


def test_a_learner_that_starts_before_a_trial_judges_all_of_its_evidence_again(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    settings = settings_of(settings)
    publish = msgspec.structs.replace(settings.publish, checkpoint_s=3600.0)
    settings = msgspec.structs.replace(settings, publish=publish)
    shop, rollouts = Shop(client, settings), RolloutStore(client, settings.redis.prefix)
    learner = Role("learner", settings, tmp_path)
    until = partial(wait_until, roles=[learner], stalled_after_s=90)

    with learner:
        asked, before = to_a_second_trial(shop, rollouts, until)
        learner.kill()
        client.delete(shop.keys.learner_status)
        learner.start()
        until(lambda: read_status(client, settings.redis.prefix) is not None, "the next learner")
        until(lambda: shop.status().num_trained == shop.num, "training from the start")
        assert shop.trial() == before
        assert rollouts.read().since == asked.since
