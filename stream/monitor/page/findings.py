"""What `coldstream doctor` would say, on the page: whatever is not well, in the same words."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from state_store.rollout import RolloutStore
from stream.checks.finding import Finding, bad
from stream.checks.kafka_cluster import check_kafka
from stream.checks.pipeline import check_counts, check_rollout
from stream.checks.redis_server import check_redis
from stream.settings import Settings

_EVERY_S = 15.0


class Findings:
    """Looks at Redis, and at the broker if its address is known here, now and then.

    Args:
        settings: effective settings.
        client: Redis.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._found: list[Finding] = []
        self._looked_at = float("-inf")

    def read(self, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """What is not well, as plain data; blocks now and then.

        Args:
            counts: the join's counters.
        """
        if time.monotonic() - self._looked_at > _EVERY_S:
            self._found = [finding for finding in self._look() if not finding.is_ok]
            self._looked_at = time.monotonic()
        found = [*self._found, *check_counts(counts)]
        return [{"subject": f.subject, "level": f.level.value, "detail": f.detail} for f in found]

    def _look(self) -> Iterator[Finding]:
        # A Redis that does not answer is told of as what is waited for.
        try:
            yield from check_redis(self._settings, self._client)
            yield from check_rollout(RolloutStore(self._client, self._settings.redis.prefix))
        except redis.RedisError:
            return
        if self._settings.kafka.url:
            try:
                yield from check_kafka(self._settings, self._client)
            except redis.RedisError as exc:
                yield bad("kafka", f"not looked at: {exc}")
