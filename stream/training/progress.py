"""What the learner tells of itself: its status, drift alarms, samples that it has missed."""

import logging
import time
from collections.abc import Sequence

from learner.published.codes import code_usage
from state_store.resident import resident_bytes
from stream.process.status import CanaryStatus, LearnerStatus
from stream.process.weather import Weather
from stream.training.checkpoints.taking import Checkpoints
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer

log = logging.getLogger("coldstream.learner")


class Progress:
    """Times the steps, and puts together what is reported.

    Args:
        prefix: of the pipeline, for messages.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._num_steps, self._step_time, self._step_max = 0, 0.0, 0.0
        self._missed_told = 0
        self.published_ms = 0
        """Wall clock of the last publish; 0 before the first."""

    def stepped(self, seconds: float) -> None:
        """A step has been done."""
        self._num_steps += 1
        self._step_time += seconds
        self._step_max = max(self._step_max, seconds)

    def status(
        self,
        trainer: Trainer,
        publisher: Publisher,
        checkpoints: Checkpoints,
        num_without_norms: int,
        weather: Weather,
        canary: CanaryStatus | None,
    ) -> LearnerStatus:
        """The report; times of steps begin anew.

        Args:
            trainer: how far training is.
            publisher: what is published.
            checkpoints: what is durable.
            num_without_norms: samples learned since norms were written.
            weather: what is waited for.
            canary: how far its trial is; None without one.
        """
        status = LearnerStatus(
            time_ms=time.time_ns() // 1_000_000,
            num_trained=trainer.num_trained,
            num_by_kind=trainer.num_by_kind,
            cursor={str(p): seq for p, seq in trainer.cursor.items()},
            version=publisher.version,
            published_ms=self.published_ms,
            held_back=publisher.held_back,
            **trainer.recent.compute(),
            freshness_p50_s=trainer.freshness.quantile(0.5),
            freshness_p99_s=trainer.freshness.quantile(0.99),
            rows=trainer.learner.num_rows,
            num_missed=trainer.num_missed,
            num_not_again=trainer.num_not_again,
            num_ageless=trainer.num_ageless,
            resident_bytes=resident_bytes(),
            step_s=self._step_time / self._num_steps if self._num_steps else 0.0,
            step_max_s=self._step_max,
            num_at_norms=trainer.num_trained - num_without_norms,
            checkpoint_stop_ms=checkpoints.stop_ms,
            checkpoint_bytes=checkpoints.num_bytes,
            waits=weather.conditions,
            waited_s=weather.waited_s,
            canary=canary,
            codes=code_usage(trainer.learner),
        )
        self._num_steps, self._step_time, self._step_max = 0, 0.0, 0.0
        return status

    def tell(self, trainer: Trainer, publisher: Publisher, alarms: Sequence[str]) -> None:
        """Tell of drift, the gate, too, and of samples that were missed since the last call.

        Args:
            trainer: how far training is.
            publisher: has the gate.
            alarms: drift alarms since the last call.
        """
        for alarm in alarms:
            log.warning("drift after %d samples: %s", trainer.num_trained, alarm)
            publisher.gate.hear(alarm, time.time_ns() // 1_000_000)
        if trainer.num_missed > self._missed_told:
            self._missed_told = trainer.num_missed
            log.warning(
                "%d samples under redis.prefix %r were learned and trimmed before this learner saw them; "
                "to go on where an earlier learner was, give its folder with --run",
                trainer.num_missed,
                self._prefix,
            )
