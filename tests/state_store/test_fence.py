"""The fence: every batch is applied exactly once, whatever is delivered again."""

import pytest
import redis

from learner.sample import decode_samples
from state_store.config import RedisSettings
from state_store.outbox import Outbox
from state_store.records import Applied, Outcome, Reading, Span
from state_store.states import StateStore

IMPRESSIONS, FEEDBACK = "impressions", "feedback"


def impressions(first: int, last: int, *, user: str = "u") -> list[tuple[int | str, ...]]:
    return [(1, o, 1000 + o, f"imp{o}", user, f"i{o % 3}", 1) for o in range(first, last + 1)]


def apply(store: StateStore, first: int, last: int, epoch: int) -> Applied:
    rows = impressions(first, last)
    return store.apply(0, IMPRESSIONS, Span(first, last), epoch, rows, b"\x90" * len(rows))


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
    assert store.fence_offsets(0) == {IMPRESSIONS: 14, FEEDBACK: -1}


def test_offsets_that_are_no_records_are_passed_over_and_lost_ones_counted(store: StateStore) -> None:
    epoch = store.open_epoch(0)
    rows = impressions(3, 4)
    assert store.apply(0, IMPRESSIONS, Span(0, 9), epoch, rows, b"\x90" * 2).outcome is Outcome.OK
    assert store.apply(0, IMPRESSIONS, Span(10, 10), epoch, ()).outcome is Outcome.OK
    assert (count(store), store.fence_offsets(0)[IMPRESSIONS]) == (2, 10)
    lost = Span(11, 30, 15)
    assert store.apply(0, IMPRESSIONS, lost, epoch, impressions(26, 27), b"\x90" * 2).outcome is Outcome.GAP
    assert store.apply(0, IMPRESSIONS, lost, epoch, impressions(26, 27), b"\x90" * 2).outcome is Outcome.DUP
    assert (count(store), store.fence_offsets(0)[IMPRESSIONS]) == (4, 30)
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
    payloads = Outbox(store.client, redis_settings.prefix, 1).read({}, max_entries=10).entries
    raw = [sample for entry in payloads for sample in _decode(entry.payload)]
    assert [(label, state[0], state[4]) for _, label, _, _, state in raw] == [
        (1, [0, 0], [0, 0]),
        (0, [1, 0], [0, 0]),
        (0, [2, 0], [0, 0]),
        (0, [3, 1], [1, 1]),
    ]


def _decode(payload: bytes) -> list[list]:
    import msgspec

    return msgspec.msgpack.decode(payload)


def test_items_are_summed_over_partitions(store: StateStore) -> None:
    for p, n in ((0, 3), (1, 5)):
        epoch = store.open_epoch(p)
        rows = [(1, o, 1000, f"{p}-{o}", "u", "item", 1) for o in range(n)]
        store.apply(p, IMPRESSIONS, Span(0, n - 1), epoch, rows, b"\x90" * n)
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [3, 5]
    assert store.roll_up_items([0, 1], 2) == 1
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [8, 8]
    assert store.roll_up_items([0, 1], 2) == 0
    epoch = store.open_epoch(0)
    store.apply(0, IMPRESSIONS, Span(3, 3), epoch, [(1, 3, 1000, "0-3", "u", "item", 1)], b"\x90")
    store.roll_up_items([0], 2)
    assert [store.read_items(p, ["item"])[0].counts[0] for p in (0, 1)] == [9, 9]


def apply_one(store: StateStore, partition: int, offset: int, item: str = "item") -> None:
    epoch = store.open_epoch(partition)
    rows = [(1, offset, 1000, f"{partition}-{offset}", "u", item, 1)]
    store.apply(partition, IMPRESSIONS, Span(offset, offset), epoch, rows, b"\x90")


def counts(store: StateStore, item: str = "item") -> list[int]:
    return [store.read_items(p, [item])[0].counts[0] for p in (0, 1)]


def test_a_roll_up_that_is_refused_comes_again(store: StateStore) -> None:
    apply_one(store, 0, 0)
    store.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match="OOM"):
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
    write = store._roll_up._write_others

    def write_and_change(**call: object) -> object:
        if store.read_items(0, ["item"])[0].counts[0] == 1:
            apply_one(store, 0, 1)
        return write(**call)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store._roll_up, "_write_others", write_and_change)
        store.roll_up_items([0, 1], 2)
    assert counts(store) == [2, 1]
    assert store.roll_up_items([0], 2) == 1
    assert counts(store) == [2, 2]
    assert store.client.smembers(store.keys.dirty(0)) == set()


def test_norms_of_older_weights_do_not_replace_newer_ones(store: StateStore) -> None:
    store.write_norms(2, {1: {"u": 2.0}}, {"i": 0.5}, 2)
    store.write_norms(1, {1: {"u": 9.0}}, {"i": 9.0}, 2)
    user = store.read_user(1, "u")
    assert (user.norm, user.norm_version) == (2.0, 2)
    assert [store.read_items(p, ["i"])[0].norm for p in (0, 1)] == [0.5, 0.5]


@pytest.mark.parametrize("cursor", [0, 1, 4, 5, 9])
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
    first = {e.sequence: e.sequence - len(_decode(e.payload)) + 1 for e in entries}
    assert all(sequence > cursor for sequence in first)
    assert min(first.values(), default=11) <= cursor + 1
    outbox.trim({0: cursor})
    assert outbox.read({0: cursor}, max_entries=10).entries == entries
    assert outbox.sequences() == {0: 10}


def test_samples_decode_into_the_learners_form(store: StateStore, redis_settings: RedisSettings) -> None:
    """The outbox is written by Lua and read by the learner; this is where the two forms meet."""
    import msgspec

    epoch = store.open_epoch(0)
    core = msgspec.msgpack.encode(("imp", "u", "i", 1000, 77, ["25", ["a", "b"], 1.5, None]))
    store.apply(0, IMPRESSIONS, Span(0, 0), epoch, [(1, 0, 1000, "imp", "u", "i", len(core))], core)
    store.apply(0, FEEDBACK, Span(0, 0), epoch, [(2, 0, 1030, "imp", "u", "i", 1)])
    store.tick(0, epoch, Reading(5050, quiet=(IMPRESSIONS, FEEDBACK)))
    (entry,) = Outbox(store.client, redis_settings.prefix, 1).read({}, max_entries=10).entries
    (sample,) = decode_samples(entry.payload)
    assert (sample.label, sample.delay_ms, sample.core.imp_id, sample.core.produced_ms) == (1, 30, "imp", 77)
    assert sample.core.features == ["25", ["a", "b"], 1.5, None]
    assert sample.state.user_counts == [0, 0]
