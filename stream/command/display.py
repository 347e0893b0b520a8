"""Live progress in the terminal, read from what the roles leave in Redis."""

import logging
import time

import redis
from rich.console import Console
from rich.live import Live
from rich.table import Table

from state_store.outbox import Outbox
from state_store.refusals import is_weather, told
from stream.process.status import read_status
from stream.process.store import open_store
from stream.process.weather import Weather
from stream.settings import Settings


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


class Display:
    """A table that follows the pipeline: events in, joined, trained, lag, AUC, weights.

    Args:
        settings: effective settings.
        client: Redis.
        console: where to draw.
    """

    def __init__(self, settings: Settings, client: redis.Redis, console: Console) -> None:
        self._settings = settings
        self._client = client
        self._store = open_store(settings, client)
        self._outbox = Outbox(client, settings.redis.prefix, settings.kafka.partitions)
        self._weather = Weather(logging.getLogger("coldstream"))
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def refresh(self, produced: int | None = None) -> None:
        """Draw the figures as they are now; while Redis does not answer, say so and keep the last ones.

        Args:
            produced: events written by a replay, if one runs.
        """
        try:
            self._draw(produced)
        except redis.RedisError as exc:
            if not is_weather(exc):
                raise
            self._weather.failed("display", told(exc))
        else:
            self._weather.passed("display")

    def _draw(self, produced: int | None) -> None:
        counts = self._store.fence_counts(range(self._settings.kafka.partitions))
        status = read_status(self._client, self._settings.redis.prefix)
        applied = sum(counts.get(name, 0) for name in ("impressions", "feedback", "heartbeat", "malformed"))
        joined = sum(counts.get(name, 0) for name in ("positive", "negative", "correction"))
        waiting = sum(self._outbox.sequences().values())
        table = Table(box=None, show_header=False, pad_edge=False)
        if produced is not None:
            table.add_row("events written", f"{produced:,}", "lag", f"{max(0, produced - applied):,}")
        table.add_row("events in", f"{applied:,}", "joined", f"{joined:,}")
        if status is not None:
            age = time.time() - status.published_ms / 1000 if status.published_ms else None
            table.add_row(
                "trained",
                f"{status.num_trained:,}",
                "waiting for the learner",
                f"{max(0, waiting - status.num_trained):,}",
            )
            table.add_row("prequential AUC (recent)", _number(status.auc), "log-loss", _number(status.log_loss))
            table.add_row("weights version", str(status.version), "age", f"{_number(age, '.1f')} s")
            table.add_row(
                "freshness p50",
                f"{_number(status.freshness_p50_s, '.2f')} s",
                "p99",
                f"{_number(status.freshness_p99_s, '.2f')} s",
            )
        self._live.update(table)

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._live.console.print()
