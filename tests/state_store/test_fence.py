"""The fence: every batch is applied exactly once, whatever is delivered again."""

import pytest
import redis
from support.columns import labelled, records_of

from learner.config import FieldSettings
from learner.samples.columns import Samples, decode
from learner.samples.former import Core, State
from learner.samples.former import Shown as ShownAs
from learner.samples.keys import NO_KEY, arm_key, value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from state_store.config import RedisSettings
from state_store.outbox import Outbox
from state_store.records import Applied, OutboxEntry, Outcome, Reading, Span
from state_store.states import StateStore

IMPRESSIONS, FEEDBACK = "impressions", "feedback"
FIELDS = (
    FieldSettings("user_id", "user", "id"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("price", "item", "numeric"),
    FieldSettings("land", "user", "categorical"),
)
ACTIONS = ("like",)
LAYOUT = Layout(FIELDS, ACTIONS)
Shown = tuple[tuple[int | str, ...], bytes]
"""An impression as the script takes it, and its core."""


def shown(offset: int, ts: int, imp: str, item: str) -> Shown:
    core = LAYOUT.pack_core(imp, "u", item, (ts, 0), ["25", ["a", "b"], 1.5, None])
    return (1, offset, ts, imp, "u", item, len(core)), core


def feed(store: StateStore, span: Span, epoch: int, impressions: list[Shown], partition: int = 0) -> Applied:
    rows, cores = [row for row, _ in impressions], b"".join(core for _, core in impressions)
    return store.apply(partition, IMPRESSIONS, span, epoch, rows, cores)


def impressions(first: int, last: int) -> list[Shown]:
    return [shown(o, 1000 + o, f"imp{o}", f"i{o % 3}") for o in range(first, last + 1)]


def apply(store: StateStore, first: int, last: int, epoch: int) -> Applied:
    return feed(store, Span(first, last), epoch, impressions(first, last))


def count(store: StateStore) -> int:
    return store.read_user(0, "u").counts[0]


def test_outcomes(store: StateStore) -> None:
    epoch = store.open_epoch(0)
    assert apply(store, 0, 9, epoch).outcome is Outcome.OK
    assert apply(store, 0, 9, epoch).outcome is Outcome.DUP
    assert apply(store, 3, 5, epoch).outcome is Outcome.DUP
    assert apply(store, 5, 14, epoch).outcome is Outcome.OVERLAP
    assert count(store) == 10
    assert apply(store, 10, 14, epoch).outcome is Outcome.OK
    assert apply(store, 20, 21, epoch).outcome is Outcome.HOLE
    assert count(store) == 15
    assert store.fence_offsets([0])[0] == {IMPRESSIONS: 14, FEEDBACK: -1}


def test_offsets_that_are_no_records_are_passed_over_and_lost_ones_counted(store: StateStore) -> None:
    epoch = store.open_epoch(0)
    assert feed(store, Span(0, 9), epoch, impressions(3, 4)).outcome is Outcome.OK
    assert store.apply(0, IMPRESSIONS, Span(10, 10), epoch, ()).outcome is Outcome.OK
    assert (count(store), store.fence_offsets([0])[0][IMPRESSIONS]) == (2, 10)
    lost = Span(11, 30, 15)
    assert feed(store, lost, epoch, impressions(26, 27)).outcome is Outcome.GAP
    assert feed(store, lost, epoch, impressions(26, 27)).outcome is Outcome.DUP
    assert (count(store), store.fence_offsets([0])[0][IMPRESSIONS]) == (4, 30)
    assert store.fence_counts([0])["gap"] == 15


def test_the_fence_goes_back_to_the_end_of_a_log_that_was_cut(store: StateStore) -> None:
    epoch = store.open_epoch(0)
    apply(store, 0, 9, epoch)
    assert not store.cut_log(0, epoch - 1, IMPRESSIONS, 6)
    assert store.cut_log(0, epoch, IMPRESSIONS, 6)
    assert not store.cut_log(0, epoch, IMPRESSIONS, 6)
    assert apply(store, 6, 7, epoch).outcome is Outcome.OK
    assert store.fence_counts([0])["cut"] == 4


def test_an_older_owner_is_refused(store: StateStore) -> None:
    old = store.open_epoch(0)
    new = store.open_epoch(0)
    refused = apply(store, 0, 4, old)
    assert (refused.outcome, refused.epoch) == (Outcome.ZOMBIE, new)
    assert count(store) == 0
    assert apply(store, 0, 4, new).outcome is Outcome.OK


def test_topics_have_fences_of_their_own(store: StateStore) -> None:
    epoch = store.open_epoch(0)
    apply(store, 0, 4, epoch)
    assert store.apply(0, FEEDBACK, Span(0, 0), epoch, [(2, 0, 1001, "imp1", "u", "i1", 1)]).outcome is Outcome.OK
    assert store.read_user(0, "u").counts == (5, 1)


def test_state_is_as_of_the_impression(store: StateStore, redis_settings: RedisSettings) -> None:
    """A sample carries what was known before its impression, not after."""
    epoch = store.open_epoch(0)
    apply(store, 0, 2, epoch)
    store.apply(0, FEEDBACK, Span(0, 0), epoch, [(2, 0, 1001, "imp0", "u", "i0", 1)])
    apply(store, 3, 3, epoch)
    for topic, offset in ((IMPRESSIONS, 4), (FEEDBACK, 1)):
        store.apply(0, topic, Span(offset, offset), epoch, [(3, offset, 9000)])
    samples = labelled((entry.payload for entry in entries(store, redis_settings)), FIELDS, ACTIONS)
    assert [(s.label, s.state.user_counts, s.state.item_counts) for s in samples] == [
        (1, [0, 0], [0, 0]),
        (0, [1, 0], [0, 0]),
        (0, [2, 0], [0, 0]),
        (0, [3, 1], [1, 1]),
    ]


def entries(store: StateStore, settings: RedisSettings) -> list[OutboxEntry]:
    return Outbox(store.client, settings.prefix, 1).read({}, max_entries=10).entries


def test_items_are_summed_over_partitions(store: StateStore) -> None:
    for p, n in ((0, 3), (1, 5)):
        epoch = store.open_epoch(p)
        feed(store, Span(0, n - 1), epoch, [shown(o, 1000, f"{p}-{o}", "item") for o in range(n)], p)
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [3, 5]
    assert store.roll_up_items([0, 1], 2) == 1
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [8, 8]
    assert store.roll_up_items([0, 1], 2) == 0
    epoch = store.open_epoch(0)
    feed(store, Span(3, 3), epoch, [shown(3, 1000, "0-3", "item")])
    store.roll_up_items([0], 2)
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [9, 9]


def apply_one(store: StateStore, partition: int, offset: int, item: str = "item") -> None:
    epoch = store.open_epoch(partition)
    feed(store, Span(offset, offset), epoch, [shown(offset, 1000, f"{partition}-{offset}", item)], partition)


def counts(store: StateStore, item: str = "item") -> list[int]:
    return [store.read_items(p, [item])[0].counts[0] for p in (0, 1)]


def test_a_roll_up_that_is_refused_comes_again(store: StateStore) -> None:
    apply_one(store, 0, 0)
    store.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            store.roll_up_items([0, 1], 2)
    finally:
        store.client.config_set("maxmemory", 0)
    assert counts(store) == [1, 0]
    assert store.roll_up_items([0, 1], 2) == 1
    assert counts(store) == [1, 1]
    assert store.roll_up_items([0, 1], 2) == 0


def test_what_changes_during_a_roll_up_is_rolled_up_by_the_next(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers at once, of which one dies; and a change between the reading and the end."""
    apply_one(store, 0, 0)
    write = store._roll_up._write

    def write_and_change(**call: object) -> object:
        if store.read_items(0, ["item"])[0].counts[0] == 1:
            apply_one(store, 0, 1)
        return write(**call)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store._roll_up, "_write", write_and_change)
        store.roll_up_items([0, 1], 2)
    assert counts(store) == [2, 1]
    assert store.roll_up_items([0], 2) == 1
    assert counts(store) == [2, 2]
    assert store.client.smembers(store.keys.dirty(0)) == set()


class DiedError(Exception):
    """A worker is gone."""


def test_what_a_roll_up_had_taken_when_it_died_is_rolled_up_by_the_next(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_one(store, 0, 0)

    def die(**_: object) -> object:
        raise DiedError

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store._roll_up, "_write", die)
        with pytest.raises(DiedError):
            store.roll_up_items([0, 1], 2)
    apply_one(store, 0, 1, "another")
    assert (counts(store), counts(store, "another")) == ([1, 0], [1, 0])
    assert store.roll_up_items([0, 1], 2) == 2
    assert (counts(store), counts(store, "another")) == ([1, 1], [1, 1])
    assert store.roll_up_items([0, 1], 2) == 0
    assert not store.client.exists(store.keys.rolling(0), store.keys.rolling(1))


@pytest.mark.parametrize("at", ["_read", "_write"])
def test_two_roll_ups_at_once_do_not_undo_each_other(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The second one begins when the first has read in one partition, or in both, and ends before that writes."""
    apply_one(store, 0, 0)
    call = getattr(store._roll_up, at)
    with monkeypatch.context() as meanwhile:

        def call_and_roll_up(**arguments: object) -> object:
            meanwhile.undo()
            found = call(**arguments) if at == "_read" else None
            apply_one(store, 0, 1)
            apply_one(store, 0, 2, "another")
            assert store.roll_up_items([0, 1], 2) == 2
            return found if at == "_read" else call(**arguments)

        meanwhile.setattr(store._roll_up, at, call_and_roll_up)
        assert store.roll_up_items([0, 1], 2) == 1
    assert (counts(store), counts(store, "another")) == ([2, 2], [1, 1])
    assert store.roll_up_items([0, 1], 2) == 0


def test_what_another_roll_up_took_meanwhile_is_not_done_with_before_that_ends(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_one(store, 0, 0)
    settle = store._roll_up._settle
    with monkeypatch.context() as meanwhile:

        def settle_late(**call: object) -> object:
            """Another one takes what there is, and dies."""
            apply_one(store, 0, 1)
            partition = [store.keys.fence(0), store.keys.dirty(0), store.keys.rolling(0)]
            assert store._roll_up._take(keys=partition)[1] == [b"item"]
            return settle(**call)

        meanwhile.setattr(store._roll_up, "_settle", settle_late)
        assert store.roll_up_items([0], 2) == 1
    assert counts(store) == [2, 1]
    assert store.roll_up_items([0], 2) == 1
    assert counts(store) == [2, 2]


def test_an_item_that_redis_let_go_during_a_roll_up_has_a_life_again(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for p in (0, 1):
        apply_one(store, p, 0)
    elsewhere, write = store.keys.item(1, "item"), store._roll_up._write

    def write_after_eviction(**call: object) -> object:
        store.client.delete(elsewhere)
        return write(**call)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store._roll_up, "_write", write_after_eviction)
        store.roll_up_items([0, 1], 2)
    assert store.client.ttl(elsewhere) > 0


def test_norms_of_older_weights_do_not_replace_newer_ones(store: StateStore) -> None:
    store.write_norms(2, {1: {"u": 2.0}}, {"i": 0.5}, 2)
    store.write_norms(1, {1: {"u": 9.0}}, {"i": 9.0}, 2)
    user = store.read_user(1, "u")
    assert (user.norm, user.norm_version) == (2.0, 2)
    assert [store.read_items(p, ["i"])[0].norm for p in (0, 1)] == [0.5, 0.5]


@pytest.mark.parametrize("cursor", [0, 1, 4, 5, 9, 10, 14, 19, 20])
def test_the_outbox_is_read_behind_a_cursor_also_inside_an_entry(
    store: StateStore, redis_settings: RedisSettings, cursor: int
) -> None:
    epoch = store.open_epoch(0)
    for n in range(2):
        apply(store, 5 * n, 5 * n + 4, epoch)
        for _ in range(2):
            store.tick(0, epoch, Reading(2050 + n, quiet=(IMPRESSIONS, FEEDBACK)))
    outbox = Outbox(store.client, redis_settings.prefix, 1)
    entries = outbox.read({0: cursor}, max_entries=10).entries
    first = {e.sequence: e.sequence - len(decode(e.payload, LAYOUT)) + 1 for e in entries}
    assert all(sequence > cursor for sequence in first)
    assert min(first.values(), default=22) <= cursor + 1
    assert list(first.values())[1:] == [sequence + 1 for sequence in first][:-1]
    outbox.trim({0: cursor})
    assert outbox.read({0: cursor}, max_entries=10).entries == entries
    assert outbox.sequences() == {0: 21}


def test_samples_decode_into_the_learners_form(store: StateStore, redis_settings: RedisSettings) -> None:
    """The outbox is written by Lua and read by the learner; this is where the two forms meet."""
    epoch = store.open_epoch(0)
    store.write_norms(7, {0: {"u": 2.5}}, {"i": 0.25}, 1)
    feed(store, Span(0, 0), epoch, [shown(0, 990, "before", "j")])
    said = ["25", ["a", "b"], 1.5, None]
    core = LAYOUT.pack_core("imp", "u", "i", (1000, 77), said, ("tab", None, 3, 0.25, 0.5, 9, "rival", True, 0.75))
    store.apply(0, IMPRESSIONS, Span(1, 1), epoch, [(1, 1, 1000, "imp", "u", "i", len(core))], core)
    store.apply(0, FEEDBACK, Span(0, 0), epoch, [(2, 0, 1030, "imp", "u", "i", 1, 4.5)])
    store.tick(0, epoch, Reading(5050, quiet=(IMPRESSIONS, FEEDBACK)))
    *_, entry = entries(store, redis_settings)
    samples: Samples = decode(entry.payload, LAYOUT)
    assert samples.encode() == entry.payload
    sample = records_of(samples)[1]
    assert sample.core == Core(
        "imp",
        "u",
        "i",
        1000,
        77,
        [value_key("age", "25"), [value_key("genres", "a"), value_key("genres", "b")], 1.5, NO_KEY],
        ShownAs("tab", None, 3, 0.25, 0.5, 9),
    )
    assert sample.state == State([1, 0], 2.5, 7, 990, [0, 0], 0.25, 7)
    # The first one's negative, the second one's positive, and that the negative is settled.
    assert samples.rows_B["user_last_ts"].tolist() == [0, 990, 0]
    row = samples.rows_B[1]
    assert (row["served_arm"], row["served_canary"], row["served_other"]) == (arm_key("rival"), 1, 0.75)
    assert (sample.kind, sample.label, sample.delay_ms, sample.values) == (SampleKind.POSITIVE, 1, 30, [4.5])
