"""Checkpoints that hold what has changed: whatever was written, merged or killed, what is read back is what was."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from learner.checkpoints import merge as merging
from learner.checkpoints.folder import (
    has_checkpoint,
    read_checkpoint,
    read_latest,
    remove_behind,
    sweep,
    write_checkpoint,
)
from learner.checkpoints.manifest import Manifest
from learner.checkpoints.merge import due, merge, merged
from learner.checkpoints.segment import DamagedError
from learner.config import ModelSettings
from learner.content.config import ContentStartSettings
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import blocks
from learner.samples.former import Sample
from learner.tables import admission
from learner.tables.table import Group, Table
from tests.learner.fast.records import make_records, to_samples
from tests.learner.fast.streams import assert_equal
from tests.learner.tasks import streams
from tests.learner.test_learner import BOTH, MODELS, make_recipe, settled, with_late_positives

Arrays = dict[str, np.ndarray]
GROUPS = (Group("w", 1), Group("v", 3, stds=(0.0, 0.5)), Group("H", 3, fill=0.25))

_ids = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50)), max_size=20)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), _ids),
        st.tuples(st.just("evict"), st.tuples(st.integers(0, 50), st.integers(0, 20))),
        st.tuples(st.just("drop"), st.lists(st.integers(1, 40), max_size=4)),
        st.tuples(st.just("take"), st.booleans()),
        st.tuples(st.just("merge"), st.tuples(st.integers(0, 9), st.integers(0, 9))),
    ),
    max_size=30,
)


@pytest.fixture(autouse=True)
def _small_pieces() -> Iterator[None]:
    """So that tables take several steps to merge, and the filter is noted in full only now and then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_STEP", 5)
        patch.setattr(admission, "_MAX_NOTED", 12)
        yield


def make_table() -> Table:
    return Table(GROUPS, (1, 3), 12, seed=3, counted=8)


def gathered(parts: list[Arrays], *, whole: bool) -> Arrays:
    return {name: column.gathered() for name, column in merged(parts, whole=whole).items()}


def do(table: Table, what: str, argument: Any) -> None:
    if what == "rows":
        keys_N = np.array([key for key, _ in argument], np.uint64)
        ts_N = np.array([ts for _, ts in argument], np.int64)
        rows_N = table.rows(keys_N, (keys_N % np.uint64(2)).astype(np.uint8), ts_N, learning=True)
        table.values["w"][rows_N] += 1
        table.values["w"][0] = 0
        table.mark(rows_N)
    elif what == "evict":
        table.evict(*argument)
    elif what == "drop":
        table.drop(np.array(argument, np.uint64))


@settings(max_examples=150, deadline=None)
@given(_steps)
def test_what_changed_makes_up_the_table_however_it_is_merged(steps: list[tuple[str, Any]]) -> None:
    table = make_table()
    parts = [table.take_changes(whole=True)]
    for what, argument in [*steps, ("take", False)]:
        do(table, what, argument)
        if what == "take" and argument:
            parts = [table.take_changes(whole=True)]
        elif what == "take":
            parts.append(table.take_changes())
        elif what == "merge":
            begin, end = sorted(n % (len(parts) + 1) for n in argument)
            if end - begin > 1:
                parts[begin:end] = [gathered(parts[begin:end], whole=begin == 0)]
    found, expected = gathered(parts, whole=True), table.state()
    assert_equal(found, expected)
    assert all(found[name].dtype == expected[name].dtype for name in expected)
    other = make_table()
    do(other, "rows", [(key, 7) for key in range(1, 30)])
    other.restore(found)
    for one in (table, other):
        do(one, "rows", [(key, key) for key in range(1, 41)])
        do(one, "evict", (30, 7))
    assert_equal(table.state(), other.state())


def test_nothing_that_did_not_change_is_taken() -> None:
    table = make_table()
    do(table, "rows", [(2, 1), (4, 1), (6, 1), (8, 1)])
    table.take_changes(whole=True)
    assert table.take_changes()["rows"].tolist() == []
    do(table, "rows", [(4, 2)])
    do(table, "drop", [6, 8])
    changes = table.take_changes()
    assert (changes["rows"].tolist(), changes["gone"].tolist()) == ([2], [3, 4])
    assert (changes["free"].tolist(), changes["free_from"].tolist()) == ([3, 4], [0])
    do(table, "rows", [(10, 3)])
    assert table.take_changes()["free_from"].tolist() == [1]


# A learner's --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing is cleared away, as with SIGKILL."""


class Kept:
    """A learner's checkpoints in a folder, merged when that is due, and now and then killed.

    Args:
        folder: where.
        learner: whose.
    """

    def __init__(self, folder: Path, learner: Learner) -> None:
        self.folder, self.learner, self.number = folder, learner, 0
        self.last: Manifest | None = None

    def write(self, at: Callable[[str], None] = lambda _: None, kept: tuple[int, ...] = ()) -> Arrays:
        """What the learner is like; it is on disk now."""
        arrays, meta = self.learner.take_changes(whole=self.last is None)
        state, behind = self.learner.state()[0], () if self.last is None else self.last.segments
        said = {"learner": meta, "number": self.number + 1}
        self.last = write_checkpoint(self.folder, self.number + 1, arrays, said, behind=behind, kept=kept, at=at)
        self.number += 1
        return state

    def merge(self, at: Callable[[str], None] = lambda _: None) -> None:
        assert self.last is not None
        begin, segments = due(self.last.segments), self.last.segments
        if begin is not None:
            becomes = merge(self.folder, segments[begin:], whole=begin == 0, at=at)
            self.last = msgspec.structs.replace(self.last, segments=(*segments[:begin], becomes))


def learn(learner: Learner, records: list[Sample]) -> np.ndarray:
    return np.concatenate([learner.learn(part).predictions_B for part in blocks(to_samples(records), 100)])


SETTLES = msgspec.structs.replace(make_recipe(), settles=True)
STARTS = ContentStartSettings("learned", "genres", evidence=0.5, every=50, buckets=64, width=8, batch=8, steps=1)
STARTED = msgspec.structs.replace(make_recipe(BOTH, embedding_ttl_days=1), content_start=STARTS)
RECIPES = {name: make_recipe(model, embedding_ttl_days=1) for name, model in MODELS.items()}
RECIPES |= {"settles": SETTLES, "content": STARTED}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_learner_is_restored_bit_for_bit_from_what_changed(recipe: Recipe, tmp_path: Path) -> None:
    records = with_late_positives(make_records(1400, num_users=300), every=4)
    records = settled(records, after=60) if recipe.settles else records
    learner = Learner(recipe)
    checkpoints, num_segments = Kept(tmp_path, learner), set[int]()
    for begin in range(0, 900, 100):
        learn(learner, records[begin : begin + (100 if begin % 400 else 20)])
        # Evict what was not seen in the last samples.
        learner.max_ts += 86_400_000 - 60_000
        learner.evict_stale()
        learner.max_ts -= 86_400_000 - 60_000
        state = checkpoints.write()
        checkpoints.merge()
        found = read_latest(tmp_path)
        assert found is not None
        num_segments.add(len(found.segments))
        assert_equal(found.arrays, state)
    assert len(num_segments) > 1
    restored = Learner(recipe)
    restored.restore(found.arrays, found.meta["learner"])
    np.testing.assert_array_equal(learn(restored, records[900:]), learn(learner, records[900:]))
    assert_equal(restored.state()[0], learner.state()[0])
    # And so does what changes from there on.
    assert_equal(restored.take_changes()[0], learner.take_changes()[0])


def test_a_learner_of_several_tasks_is_restored_bit_for_bit_from_what_changed(tmp_path: Path) -> None:
    learner = Learner(streams.make_recipe(ModelSettings(deep="dcnv2", dim=4, hidden=(8,))))
    checkpoints = Kept(tmp_path, learner)
    for seed in range(4):
        learner.learn(streams.to_samples(streams.make_stream(60, seed)))
        state = checkpoints.write()
        checkpoints.merge()
        found = read_latest(tmp_path)
        assert found is not None
        assert_equal(found.arrays, state)


POINTS = (
    "checkpoint.before_write",
    "checkpoint.half_written",
    "checkpoint.before_rename",
    "checkpoint.before_manifest",
    "merge.before_write",
    "merge.half_written",
    "merge.before_rename",
    "merge.written",
)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("num_before", [1, 4])
def test_a_kill_at_any_point_leaves_the_last_complete_checkpoint(point: str, num_before: int, tmp_path: Path) -> None:
    def at(passed: str) -> None:
        if passed == point:
            raise Killed

    learner = Learner(make_recipe(BOTH))
    checkpoints, rest = Kept(tmp_path, learner), make_records(2000)
    for _ in range(num_before):
        learn(learner, rest[:100])
        rest = rest[100:]
        state = checkpoints.write()
    learn(learner, rest[:100])
    if point.startswith("merge."):
        state = checkpoints.write()
        with pytest.raises(Killed):
            checkpoints.merge(at)
    else:
        with pytest.raises(Killed):
            checkpoints.write(at)
    sweep(tmp_path)
    found = read_latest(tmp_path)
    assert found is not None
    assert_equal(found.arrays, state)
    assert list(tmp_path.glob("*.part")) == []
    # The next one goes on from there, and nothing is left over.
    again = Learner(make_recipe(BOTH))
    again.restore(found.arrays, found.meta["learner"])
    after = Kept(tmp_path, again)
    after.number, after.last = found.meta["number"], Manifest(found.meta["number"], found.segments, found.meta)
    for _ in range(3):
        learn(again, rest[100:150])
        state = after.write()
        after.merge()
    found = read_latest(tmp_path)
    assert found is not None
    assert_equal(found.arrays, state)


def test_what_is_kept_stays_and_what_nothing_refers_to_goes(tmp_path: Path) -> None:
    learner = Learner(make_recipe())
    checkpoints, states = Kept(tmp_path, learner), {}
    for number in range(1, 15):
        learn(learner, make_records(30, seed=number))
        states[number] = checkpoints.write(kept=(3, 5))
        checkpoints.merge()
    assert sorted(int(path.stem) for path in tmp_path.glob("*.manifest")) == [3, 5, 13, 14]
    for number in (3, 5, 13, 14):
        assert_equal(read_checkpoint(tmp_path, number).arrays, states[number])
    with pytest.raises(DamagedError, match="has no checkpoint 4"):
        read_checkpoint(tmp_path, 4)
    assert [has_checkpoint(tmp_path, number) for number in (4, 5, 14)] == [False, True, True]
    sweep(tmp_path)
    used = {part.name for number in (3, 5, 13, 14) for part in read_checkpoint(tmp_path, number).segments}
    assert {path.name for path in tmp_path.glob("*.segment")} == used
    remove_behind(tmp_path, 5)
    sweep(tmp_path)
    found = read_latest(tmp_path)
    assert found is not None
    assert_equal(found.arrays, states[5])
    checkpoints.last = None
    checkpoints.write()
    checkpoints.write()
    assert len(list(tmp_path.glob("*.segment"))) == 2


def test_a_segment_costs_what_changed_and_is_a_plain_safetensors_file(tmp_path: Path) -> None:
    learner = Learner(make_recipe())
    checkpoints = Kept(tmp_path, learner)
    learn(learner, make_records(3000, num_users=2000))
    checkpoints.write()
    learn(learner, make_records(5, seed=1))
    state = checkpoints.write()
    assert checkpoints.last is not None
    whole, changes = checkpoints.last.segments
    assert 10 * changes.num_bytes < whole.num_bytes
    there = load_file(tmp_path / whole.name)
    assert there["fast.table.values.v"].shape[1] == state["fast.table.values.v"].shape[1]
    assert len(there["fast.table.rows"]) > 1000
    assert 0 < len(load_file(tmp_path / changes.name)["fast.table.rows"]) < 50


def test_a_checkpoint_of_the_former_version_is_read(tmp_path: Path) -> None:
    learner = Learner(make_recipe())
    learn(learner, make_records(200))
    arrays, meta = learner.state()
    packed = np.frombuffer(msgspec.msgpack.encode({"learner": meta, "number": 7}), np.uint8)
    body = save({**arrays, "meta": packed})
    (tmp_path / "000000000007.ckpt").write_bytes(sha256(body).digest() + body)
    (tmp_path / "000000000008.ckpt").write_bytes(b"cut off")
    found = read_latest(tmp_path)
    assert found is not None
    assert (found.meta["number"], found.segments) == (7, ())
    assert_equal(found.arrays, arrays)
    checkpoints = Kept(tmp_path, learner)
    checkpoints.number = 8
    checkpoints.write()
    checkpoints.write()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".manifest"] * 2 + [".segment"] * 2
