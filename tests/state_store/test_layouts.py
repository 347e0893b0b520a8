"""Impressions that were held under other fields or actions: their samples keep the layout that they came with."""

import pytest
import redis

from learner.config import FieldSettings
from learner.samples.columns import LayoutError, decode
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.outbox import Outbox
from state_store.records import OutboxEntry
from state_store.states import StateStore
from stream.events import Feedback, Heartbeat, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.sections import EventSettings

T0 = 10**12
TOPICS = ("impressions", "feedback")
JOIN = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1)
Declared = tuple[tuple[FieldSettings, ...], tuple[str, ...]]


def feed_both(client: redis.Redis, settings: RedisSettings, before: Declared, after: Declared) -> list[OutboxEntry]:
    """An impression comes, other settings are declared, another comes, feedback to both; the windows of both close."""
    offset = 0
    for imp, (fields, actions) in (("before", before), ("after", after)):
        counted = ActionSettings(actions)
        ingest = Ingest(
            StateStore(client, settings, JOIN, counted, TOPICS), fields, counted, EventSettings(), lambda dead: None
        )
        ingest.assign(0)
        said = {"age": 25, "genres": ["x", imp], "price": 1.5, "land": "L"}
        event = Impression(imp_id=imp, user_id="u", item_id="i", ts=T0 + offset, features=said)
        ingest.process(TOPICS[0], 0, [LogRecord(offset, encode_event(event), 0)], T0)
        offset += 1
    end = encode_event(Heartbeat(ts=T0 + 120))
    values = [
        encode_event(Feedback(imp_id=imp, user_id="u", item_id="i", action="like", ts=T0 + 30, value=value))
        for imp, value in (("before", 2.5), ("after", 3.5))
    ]
    ingest.process(TOPICS[1], 0, [LogRecord(n, value, 0) for n, value in enumerate([*values, end])], T0 + 120)
    ingest.process(TOPICS[0], 0, [LogRecord(offset, encode_event(Heartbeat(ts=T0 + 200)), 0)], T0 + 200)
    ingest.process(TOPICS[1], 0, [LogRecord(3, encode_event(Heartbeat(ts=T0 + 200)), 0)], T0 + 200)
    return Outbox(client, settings.prefix, 1).read({}, max_entries=10).entries


def check(entries: list[OutboxEntry], before: Declared, after: Declared) -> None:
    old, new = Layout(*before), Layout(*after)
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4]
    layouts = [old, new, old, new]
    for entry, layout, imp in zip(entries, layouts, ["before", "after"] * 2, strict=True):
        samples = decode(entry.payload, layout)
        assert samples.encode() == entry.payload, "it is whole, and there is nothing more in it"
        assert samples.imp_ids == [imp]
        assert samples.rows_B["ts"].tolist() == [T0 + (imp == "after")]
        is_shown = entry.sequence <= 2
        assert samples.rows_B["kind"].tolist() == [SampleKind.SHOWN if is_shown else SampleKind.POSITIVE]
        of_like = samples.rows_B["values"][0, layout.actions.index("like")]
        assert is_shown or of_like == (2.5 if imp == "before" else 3.5)
        assert samples.rows_B["user_counts"][0, 0] == (imp == "after")
        assert samples.rows_B["negative_rate"].tolist() == [1.0]


def test_two_layouts_in_one_batch_leave_as_two_entries(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    before = fields, ("like",)
    after = (*fields[:3], FieldSettings("land", "user", "categorical"), *fields[3:]), ("like",)
    check(feed_both(client, redis_settings, before, after), before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [(("like",), ("like", "share", "play")), (("like", "share"), ("like",)), (("like",), ("like", "buy"))],
    ids=["more", "fewer", "one more"],
)
def test_actions_that_came_since_do_not_change_samples_of_impressions_before_them(
    client: redis.Redis,
    redis_settings: RedisSettings,
    fields: tuple[FieldSettings, ...],
    before: tuple[str, ...],
    after: tuple[str, ...],
) -> None:
    """Or a learner with the former settings, as it is told to be started, reads rows of another length."""
    check(feed_both(client, redis_settings, (fields, before), (fields, after)), (fields, before), (fields, after))


def test_the_learner_says_both_layouts_and_what_to_do(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    before, after = (fields, ("like",)), (fields[:4], ("like",))
    old, new = Layout(*before), Layout(*after)
    entries = feed_both(client, redis_settings, before, after)
    for entry, reader, owner in ((entries[0], new, old), (entries[1], old, new)):
        with pytest.raises(LayoutError) as caught:
            decode(entry.payload, reader)
        said = str(caught.value)
        assert f"samples of layout {owner.tag:08x} wait" in said
        assert f"the settings say {reader.describe()}" in said
        assert f"{reader.tag:08x}" in said
        assert "start the learner with the settings that their worker had" in said
