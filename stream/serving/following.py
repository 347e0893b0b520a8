"""What a scorer does besides answering: it loads what is published, and tells of harm that it sees."""

import logging
import time
from collections.abc import Callable

import redis

from learner.named import ArraysError
from state_store.refusals import is_weather, told
from state_store.rollout import DamagedRolloutError
from state_store.weights import WeightsError
from stream.process.garbage import spare_garbage_collector
from stream.process.weather import Weather
from stream.rollout.decisions import reverted
from stream.rollout.watch import Watch
from stream.serving.lineup.lineup import Lineup

_NAME = "scorer"


class Following:
    """Steps that are done every so often; what keeps one from working is told, and the others go on.

    Args:
        lineup: the weights.
        refresh_s: `serving.refresh_s`.
        log: where it is told.
    """

    def __init__(self, lineup: Lineup, refresh_s: float, log: logging.Logger) -> None:
        self._lineup = lineup
        self._refresh_s = refresh_s
        self._log = log
        self._weather = Weather(log)

    def load(self) -> float:
        """Load newer weights of every kind if there are any; returns the seconds until the next time."""
        was_first = not self._lineup.newest.num_swaps
        pauses = [self._do(name, step) for name, step in self._lineup.steps()]
        if was_first and self._lineup.newest.num_swaps:
            spare_garbage_collector()
        return max(self._refresh_s, *pauses)

    def tell(self, watch: Watch) -> float:
        """Have harm that was seen reverted, and see what is decided; returns the seconds until the next time."""
        harm, now_ms = watch.harm, time.time_ns() // 1_000_000
        if not harm:
            return max(self._refresh_s, self._do("rollout", self._lineup.look))

        def revert() -> None:
            self._lineup.rollouts.update(lambda rollout: reverted(rollout, harm, _NAME, now_ms))
            watch.forget()

        return max(self._refresh_s, self._do("revert", revert))

    def _do(self, name: str, step: Callable[[], object]) -> float:
        """Returns how long to wait if it did not work."""
        try:
            step()
        except (WeightsError, ArraysError, DamagedRolloutError) as exc:
            self._weather.failed(name, str(exc))
            return 0.0
        except redis.RedisError as exc:
            if not is_weather(exc):
                self._log.error("%s: redis refuses", name, exc_info=exc)
            return self._weather.failed(name, told(exc))
        self._weather.passed(name)
        return 0.0
