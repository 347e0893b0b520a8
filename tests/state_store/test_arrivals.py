"""What one call brings is due together: deadlines pass by event time, each once, also where settings change."""

from collections.abc import Callable, Sequence
from itertools import count

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.fed import T0, Fed

from learner.config import FieldSettings
from learner.samples.kind import SampleKind
from state_store.config import JoinSettings, RedisSettings
from stream.events import Event, Feedback, Heartbeat, Impression

JOIN = JoinSettings(window_ms=100, settle_ms=300, attribution_ms=1000, lateness_ms=50, time_users=1)
END = Heartbeat(ts=T0 + 10**7)
_numbers = count()
Make = Callable[[JoinSettings], Fed]


def shown(imp: str, ts: int) -> Impression:
    return Impression(imp_id=imp, user_id=f"u{ts % 5}", item_id=f"i{ts % 3}", ts=T0 + ts)


@pytest.fixture
def make(client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]) -> Make:
    def made(join: JoinSettings) -> Fed:
        own = msgspec.structs.replace(redis_settings, prefix=f"{redis_settings.prefix}-{next(_numbers)}")
        return Fed(client, own, join, fields, ("like",))

    return made


def said(fed: Fed) -> list[tuple[str, SampleKind]]:
    """What has left, without what says that it was shown."""
    return [(s.core.imp_id, s.kind) for s in fed.samples() if s.kind is not SampleKind.SHOWN]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.integers(0, 700), min_size=1, max_size=60),
    size=st.sampled_from([1, 2, 7, 60]),
    limit=st.sampled_from([1, 3, 20, 4096]),
)
def test_samples_leave_in_the_order_in_which_they_are_due(make: Make, times: list[int], size: int, limit: int) -> None:
    join = msgspec.structs.replace(JOIN, lateness_ms=100, release_limit=limit)
    newest, in_time = 0, []
    for n, ts in enumerate(times):
        newest = max(newest, ts)
        if ts >= newest - join.lateness_ms:
            in_time.append((ts, n))
    fed = make(join)
    for some in _in_batches([shown(str(n), ts) for n, ts in enumerate(times)], size):
        fed.batch(0, some)
    fed.feed(END)
    # At once by the later deadline.
    deadlines = {SampleKind.NEGATIVE: join.window_ms, SampleKind.SETTLED: join.settle_ms}
    due = sorted((ts + deadline, -deadline) for ts, _ in in_time for deadline in deadlines.values())
    found = said(fed)
    assert [(times[int(imp)] + deadlines[kind], -deadlines[kind]) for imp, kind in found] == due
    assert len(set(found)) == len(found)
    fed.expected()


def _in_batches(events: Sequence[Event], size: int) -> list[list[Event]]:
    return [list(events[at : at + size]) for at in range(0, len(events), size)]


@pytest.mark.parametrize("passed", [0, 120, 350, 450])
@pytest.mark.parametrize("changed", [{"window_ms": 60}, {"window_ms": 200}, {"settle_ms": 0}, {"settle_ms": 400}])
@pytest.mark.parametrize("attribution", [500, 1000, 2000])
def test_deadlines_that_change_pass_once(make: Make, passed: int, changed: dict[str, int], attribution: int) -> None:
    """Whatever has passed of the former ones; and nothing stays held."""
    before = make(JOIN)
    before.batch(0, [shown(str(n), n) for n in range(3)])
    liked = Feedback(imp_id="1", user_id="u1", item_id="i1", action="like", ts=T0 + 480)
    for topic in (0, 1):
        before.batch(topic, [Heartbeat(ts=T0 + passed + 50)])
    after = before.continued(msgspec.structs.replace(JOIN, attribution_ms=attribution, **changed))
    after.batch(1, [liked])
    after.feed(END)
    found = said(after)
    assert [(imp, k) for imp, k in found if k is SampleKind.CORRECTION] == [("1", SampleKind.CORRECTION)]
    assert sorted(imp for imp, k in found if k is SampleKind.NEGATIVE) == ["0", "1", "2"]
    settled = [imp for imp, k in found if k is SampleKind.SETTLED]
    assert len(settled) == len(set(settled))
    keys = after.store.keys
    left = keys.bodies(0), keys.labels(0), keys.arrivals(0), keys.due(0)
    assert after.store.client.exists(*left) == 0, "state must not pile up"


def test_what_is_due_is_handled_also_where_the_answer_that_there_is_more_was_lost(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch comes again, and is known; nothing else may come of its partition for long."""
    fed = make(msgspec.structs.replace(JOIN, release_limit=3))
    fed.batch(0, [shown(str(n), n) for n in range(10)])
    fed.batch(0, [END])

    def lost(partition: int) -> None:
        raise redis.ConnectionError("the connection was closed")

    with monkeypatch.context() as away:
        away.setattr(fed.ingest, "tick", lost)
        with pytest.raises(redis.ConnectionError):
            fed.batch(1, [END])
    assert len(said(fed)) < 20
    fed.again(1)
    assert len(said(fed)) == 20
    fed.expected()
