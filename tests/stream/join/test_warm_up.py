"""Nothing is compiled once records come."""

import numba
import pytest
import redis
from support.alone import check_alone

from state_store.config import RedisSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.ingest.plain import batch
from stream.join.kernels import columns, deadlines, ids, matching, upkeep, writes
from tests.stream.join.test_same_state import TASKS, JoinSettings, Side, small_log


def num_compiled() -> dict[str, int]:
    """Signatures of every compiled function."""
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in (batch, columns, deadlines, ids, matching, upkeep, writes)
        for name, value in vars(module).items()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    }


def check() -> None:
    """Warm up, join, and fail if more is compiled after it than before."""
    with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
        join = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1)
        side = Side(client, RedisSettings(url=server.url), join, TASKS, by="compiled")
        assert side.ingest.warm_up() > 0
        before, offsets = num_compiled(), [0, 0]
        for topic, values in small_log(5, 40):
            side.feed(topic, offsets[topic], values)
            offsets[topic] += len(values)
    after = num_compiled()
    assert after == before, {name: (before[name], number) for name, number in after.items() if number != before[name]}
    assert sum(before.values()) > 10


@pytest.mark.slow
def test_after_it_nothing_is_compiled() -> None:
    check_alone(__name__, "check()")
