"""The canary's judge at work: what it decides goes into the rollout, whence scorers and publisher have it."""

import logging
import time

import redis

from state_store.rollout import DamagedRolloutError, Rollout
from state_store.weights import WeightStore
from stream.process.status import CanaryStatus
from stream.rollout.judge import Judge
from stream.rollout.trial import Trial, log_evidence, most_evidence
from stream.sections import ServingSettings
from stream.settings import Settings
from stream.training.trainer import Trainer, TrainerState

log = logging.getLogger("coldstream.learner")


class CanaryStep:
    """Has the judge look every so often.

    Args:
        settings: the serving section.
        client: Redis.
        prefix: of its keys.
        trial: where an earlier judge was.
    """

    def __init__(self, settings: ServingSettings, client: redis.Redis, prefix: str, trial: Trial | None) -> None:
        self._settings = settings
        self._weights = WeightStore(client, prefix)
        self.judge = Judge(settings, trial)

    def look(self, newest: int) -> None:
        """Decide what is to be decided; nothing while what stands in Redis is no rollout, which the gate tells of.

        Args:
            newest: version published last.
        """
        kept, before, now_ms = self._weights.kept(), Rollout(), time.time_ns() // 1_000_000

        def decided(rollout: Rollout) -> Rollout:
            nonlocal before
            before = rollout
            return self.judge.decide(rollout, kept, newest, now_ms)

        try:
            after = self._weights.rollouts.update(decided)
        except DamagedRolloutError:
            return
        for decision in after.decisions[len(before.decisions) :]:
            tell = log.warning if decision.what in {"revert", "hold"} else log.info
            tell("canary: %s version %d: %s", decision.what, decision.version, decision.why)
        self.judge.follow(after)

    def status(self) -> CanaryStatus:
        """For whoever watches."""
        trial, limit = self.judge.trial, most_evidence(self._settings.canary_alpha)
        wanted = self._settings.canary_outcomes
        if trial is None:
            return CanaryStatus(0, wanted, limit, {})
        return CanaryStatus(trial.num_outcomes, wanted, limit, log_evidence(trial))


def canary_of(
    settings: Settings, client: redis.Redis, trainer: Trainer, state: TrainerState | None, newest: int
) -> CanaryStep | None:
    """The judge of a trainer's lineage, where a checkpoint left him; None without `serving.canary_share`.

    Args:
        settings: effective settings.
        client: Redis.
        trainer: which has learned nothing since.
        state: of the checkpoint.
        newest: version published last.
    """
    if not settings.serving.canary_share:
        return None
    step = CanaryStep(settings.serving, client, settings.redis.prefix, state.trial if state is not None else None)
    # The trial that is on may be younger than the checkpoint, and its evidence is about to come again.
    step.look(newest)
    trainer.judge = step.judge
    trainer.hear(step.judge)
    return step
