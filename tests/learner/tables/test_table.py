"""The table against a model made of dicts, under any sequence of calls."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.tables import admission
from learner.tables.hashing import normal
from learner.tables.memory import MemoryRefusedError, reserve
from learner.tables.table import CHECKPOINT, EVERYONE, PUBLISH, Group, Table, TableFullError

MIN_COUNTS = (1, 3)
GROUPS = (Group("w", 1), Group("v", 3, stds=(0.0, 0.5)), Group("H", 3, fill=0.25))
MAX_ROWS = 12
COUNTED = 8


@pytest.fixture(autouse=True, scope="module")
def _exact_counts() -> Iterator[None]:
    """A filter so wide that ids do not share cells: it counts as a dict does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "_CELLS_PER_ID", 1 << 12)
        yield


def make_table(max_rows: int = MAX_ROWS) -> Table:
    return Table(GROUPS, MIN_COUNTS, max_rows, seed=3, counted=COUNTED)


class Model:
    """What a table is to do, in dicts."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.row_of: dict[int, int] = {}
        self.last_ts: dict[int, int] = {}
        self.touched: dict[int, int] = {}
        self.free: list[int] = []
        self.next, self.scanned_to, self.num_refused = 1, 0, 0
        self.younger: dict[int, int] = {}
        self.older: dict[int, int] = {}
        self.evicted: set[int] = set()

    def occurs(self, key: int, field: int, ts: int) -> int:
        if not key:
            return 0
        if key not in self.row_of and self._is_admitted(key, MIN_COUNTS[field]):
            if not self.free and self.next > self.max_rows:
                self.num_refused += 1
                return 0
            if not self.free:
                self.free, self.next = [self.next], self.next + 1
            row = self.row_of[key] = self.free.pop()
            self.last_ts[row], self.touched[row] = 0, EVERYONE
        row = self.row_of.get(key, 0)
        if row and ts > self.last_ts[row]:
            self.last_ts[row] = ts
            self.touched[row] |= CHECKPOINT
        return row

    def _is_admitted(self, key: int, min_count: int) -> bool:
        if min_count == 1:
            return True
        if key not in self.younger and len(self.younger) == COUNTED:
            self.older, self.younger = self.younger, {}
        count = self.younger.get(key, 0)
        self.younger[key] = min(count + 1, 255)
        return count + self.older.get(key, 0) + 1 >= min_count

    def evict(self, before_ts: int, max_scanned: int) -> int:
        owner, num = {row: key for key, row in self.row_of.items()}, 0
        for _ in range(min(max_scanned, self.next - 1)):
            self.scanned_to = self.scanned_to + 1 if self.scanned_to + 1 < self.next else 1
            row = self.scanned_to
            if row in owner and self.last_ts[row] < before_ts:
                self.evicted.add(owner[row])
                self.release(owner[row])
                num += 1
        return num

    def release(self, key: int) -> None:
        row = self.row_of.pop(key)
        self.touched[row], self.last_ts[row] = CHECKPOINT, 0
        self.free.append(row)

    def take(self, consumer: int) -> list[int]:
        rows = sorted(row for row, bits in self.touched.items() if bits & consumer)
        for row in rows:
            self.touched[row] &= ~consumer
        return rows


# Odd keys belong to field 1, which admits at the third occurrence.
_keys = st.integers(0, 40)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), st.lists(st.tuples(_keys, st.integers(0, 50)), max_size=30)),
        st.tuples(st.just("some"), st.lists(st.tuples(_keys, st.integers(0, 50), st.booleans()), max_size=30)),
        st.tuples(st.just("evict"), st.tuples(st.integers(0, 50), st.integers(0, 20))),
        st.tuples(st.just("drop"), st.lists(_keys, max_size=3)),
        st.tuples(st.just("take"), st.sampled_from([PUBLISH, CHECKPOINT])),
        st.tuples(st.sampled_from(["evicted", "restore"]), st.just(None)),
    ),
    max_size=25,
)


def occurrences(ids: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys, ts = [key for key, _ in ids], [time for _, time in ids]
    return np.array(keys, np.uint64), np.array([key % 2 for key in keys], np.uint8), np.array(ts, np.int64)


def step(table: Table, model: Model, what: str, argument: Any) -> Table:
    """Do the same with both; returns the table that goes on."""
    if what == "rows":
        keys_N, fields_N, ts_N = occurrences(argument)
        expected = [model.occurs(key, key % 2, ts) for key, ts in argument]
        assert table.rows(keys_N, fields_N, ts_N, learning=True).tolist() == expected
    elif what == "some":
        ids, learn = [(key, ts) for key, ts, _ in argument], [is_learned for _, _, is_learned in argument]
        expected = [
            model.occurs(k, k % 2, ts) if is_learned else model.row_of.get(k, 0) for k, ts, is_learned in argument
        ]
        assert table.rows(*occurrences(ids), learning=np.array(learn, np.bool_)).tolist() == expected
    elif what == "evict":
        assert len(table.evict(*argument)) == model.evict(*argument)
    elif what == "drop":
        there = [key for key in dict.fromkeys(argument) if key in model.row_of]
        for key in there:
            model.release(key)
        assert table.drop(np.array(argument, np.uint64)) == len(there)
    elif what == "take":
        assert table.take_touched(argument).tolist() == model.take(argument)
    elif what == "evicted":
        assert table.take_evicted().tolist() == sorted(key for key in model.evicted if key not in model.row_of)
        model.evicted = set()
    elif what == "restore":
        other = make_table()
        other.rows(*occurrences([(key, 1) for key in range(30)]), learning=True)
        other.restore(table.state())
        model.touched = dict.fromkeys(model.row_of.values(), PUBLISH)
        model.evicted = set()
        return other
    return table


@settings(max_examples=400, deadline=None)
@given(_steps)
def test_it_is_what_the_model_says(steps: list[tuple[str, Any]]) -> None:
    table, model = make_table(), Model(MAX_ROWS)
    every = np.arange(41, dtype=np.uint64)
    for what, argument in steps:
        table = step(table, model, what, argument)
        assert (table.num_rows, table.num_refused) == (len(model.row_of), model.num_refused)
        read = table.rows(every, every % 2, np.full(41, 99), learning=False)
        assert read.tolist() == [model.row_of.get(key, 0) for key in range(41)]
        assert not table.arrays.block_RX[[0, *model.free]].any()
    for key, row in model.row_of.items():
        arrays = table.arrays
        assert (arrays.key_R[row], arrays.field_R[row], arrays.last_ts_R[row]) == (key, key % 2, model.last_ts[row])
        assert table.values["H"][row].tolist() == [0.25] * 3
        std = 0.5 * (key % 2)
        expected_v = [np.float32(std * normal(np.uint64(key), np.uint64(3 + (1 << 32)), d)) for d in range(3)]
        assert table.values["v"][row].tolist() == expected_v


def stream(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    keys_N = rng.zipf(1.3, count).astype(np.uint64) % np.uint64(5_000)
    return keys_N, (keys_N % np.uint64(2)).astype(np.uint8), np.arange(count)


def test_rows_do_not_depend_on_how_a_stream_is_cut_and_grow_beyond_the_first_index() -> None:
    keys_N, fields_N, ts_N = stream(1, 20_000)
    whole, cut = (Table(GROUPS, MIN_COUNTS, 4_000, seed=3, counted=100) for _ in range(2))
    rows_N = whole.rows(keys_N, fields_N, ts_N, learning=True)
    begin = 0
    for size in np.random.default_rng(2).integers(1, 400, 200):
        part = slice(begin, begin + size)
        assert (cut.rows(keys_N[part], fields_N[part], ts_N[part], learning=True) == rows_N[part]).all()
        begin += size
    cut.rows(keys_N[begin:], fields_N[begin:], ts_N[begin:], learning=True)
    assert whole.num_rows > 1_000
    assert_same(whole, cut)


def assert_same(one: Table, other: Table) -> None:
    there, here = one.state(), other.state()
    assert there.keys() == here.keys()
    for name in there:
        np.testing.assert_array_equal(there[name], here[name], err_msg=name)


def test_after_a_restore_everything_goes_on_bit_for_bit() -> None:
    keys_N, fields_N, ts_N = stream(3, 6_000)
    there = Table(GROUPS, MIN_COUNTS, 100, seed=3, counted=100)
    here = Table(GROUPS, MIN_COUNTS, 100, seed=3, counted=100)
    for turn, part in enumerate(np.array_split(np.arange(6_000), 60)):
        there.rows(keys_N[part], fields_N[part], ts_N[part], learning=True)
        there.evict(int(ts_N[part[0]]) - 400, max_scanned=17)
        if turn == 29:
            here.restore(there.state())
        if turn > 29:
            here.rows(keys_N[part], fields_N[part], ts_N[part], learning=True)
            here.evict(int(ts_N[part[0]]) - 400, max_scanned=17)
    assert there.num_refused > 0
    assert len(there.take_evicted()) > 0
    assert_same(there, here)


def test_of_a_table_that_nobody_follows_what_was_evicted_is_forgotten() -> None:
    table = Table(GROUPS, MIN_COUNTS, MAX_ROWS, followed=False)
    table.rows(*occurrences([(2, 1), (4, 2), (6, 3)]), learning=True)
    assert sorted(table.evict(3, 10).tolist()) == [2, 4]
    table.forget(np.array([6], np.uint64))
    assert (table.evicted, table.num_rows, len(table.take_evicted())) == ([], 0, 0)


def test_a_state_is_a_copy_and_holds_used_rows_only() -> None:
    table = make_table()
    table.rows(*occurrences([(2, 1), (4, 2), (6, 3)]), learning=True)
    table.evict(2, 10)
    state = table.state()
    table.values["w"][:] = 7
    assert state["values.w"].tolist() == [[0], [0]]
    assert (state["rows"].tolist(), state["keys"].tolist(), state["free"].tolist()) == ([2, 3], [4, 6], [1])


def test_put_gives_values_drop_takes_them_and_a_full_table_says_so() -> None:
    table = make_table(max_rows=3)
    keys_N, fields_N = np.array([9, 4], np.uint64), np.array([1, 0], np.uint8)
    rows_N = table.put(keys_N, fields_N, {"w": np.array([[1.0], [2.0]]), "v": np.ones((2, 3))})
    assert table.find(np.array([4, 5, 9], np.uint64)).tolist() == [rows_N[1], 0, rows_N[0]]
    assert table.values["w"][rows_N, 0].tolist() == [1, 2]
    assert table.take_touched(PUBLISH).tolist() == sorted(rows_N)
    table.put(keys_N[:1], fields_N[:1], {"w": np.array([[5.0]])})
    assert table.values["w"][rows_N[0], 0] == 5
    assert table.drop(np.array([9, 9, 77], np.uint64)) == 1
    assert table.find(keys_N).tolist() == [0, rows_N[1]]
    new = np.array([11, 13, 15], np.uint64)
    with pytest.raises(TableFullError, match="holds 3 ids and is full"):
        table.put(new, np.ones(3, np.uint8), {"w": np.full((3, 1), 3.0)})
    assert (table.find(new) > 0).tolist() == [True, True, False]
    assert not table.arrays.block_RX[0].any()
    with pytest.raises(ValueError, match="no such values: x; there are w, v, H"):
        table.put(keys_N, fields_N, {"x": np.ones((2, 1))})
    with pytest.raises(ValueError, match="a key is 0"):
        table.put(np.zeros(1, np.uint64), fields_N[:1], {})


def test_a_row_that_moves_nothing_has_its_norm() -> None:
    table = make_table()
    rows_N = table.put(np.array([4], np.uint64), np.zeros(1, np.uint8), {"v": np.array([[3.0, 0.0, 4.0]])})
    assert table.norms(np.array([0, rows_N[0]]), "v").tolist() == [0, 5]


def test_memory_per_id_is_what_is_said() -> None:
    table = Table([Group("w", 1), Group("G", 1), Group("v", 16), Group("H", 16)], [1], 100_000)
    arrays = table.arrays
    per_row = sum(array[0].nbytes for array in (arrays.block_RX, arrays.key_R, arrays.field_R, arrays.last_ts_R))
    per_row += arrays.touched_R[0].nbytes
    least, most = table.bytes_per_id()
    assert (per_row, round(least), round(most)) == (154, 174, 194)
    for count in (5_000, 20_000, 50_000, 90_000):
        keys_N = np.arange(1, count + 1, dtype=np.uint64)
        table.rows(keys_N, np.zeros(count, np.uint8), keys_N.astype(np.int64), learning=True)
        assert least <= per_row + table.index.nbytes / count <= most + 0.1


def test_reserved_memory_is_given_out_page_by_page() -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * 4096

    before = resident()
    array = reserve((1 << 32, 4), np.float32)
    array[1 << 31] = 1
    assert array.nbytes == 64 << 30
    assert resident() - before < 64 << 20
    assert array[(1 << 31) - 1 : (1 << 31) + 2, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: reserve((1 << 50, 1 << 10), np.float32), r"1,125,899,906,842,624 x 1,024 float32.*allow fewer rows"),
        (lambda: reserve((1 << 44, 16), np.float32), r"cannot reserve 1,048,576.0 GiB"),
        (lambda: Table(GROUPS, MIN_COUNTS, 0), r"max_rows must be 1 to 2,147,483,646, got 0"),
        (lambda: Table(GROUPS, (1, 256), 9), r"min_count must be 1 to 255.*got 1 to 256"),
        (lambda: Table([Group("w", 0)], (1,), 9), r"values w: width must be >= 1, got 0"),
        (lambda: Table([Group("v", 1, stds=(1.0,))], (1, 1), 9), r"values v: .* one per field, 2, or none, got 1"),
        (lambda: Table(GROUPS, (1, 1), 9, counted=0), r"filter counts 1 to 67,108,864 ids, not 0"),
        (lambda: make_table().rows(np.ones(1), np.full(1, 2), np.ones(1), learning=True), "field 2 must be below 2"),
        (
            lambda: make_table().rows(np.ones(2), np.ones(1), np.ones(1), learning=True),
            "2 keys, 1 fields, 1 times and 2 marks",
        ),
        (lambda: make_table(5).restore(full_state()), r"has used 12 rows, this one may have only 5"),
        (lambda: Table([Group("w", 1)], (1,), 9).restore(full_state()), r"has values .*settings have changed"),
    ],
)
def test_what_cannot_be_is_said(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, MemoryRefusedError), match=message):
        attempt()


def full_state() -> dict[str, np.ndarray]:
    table = make_table()
    table.rows(*occurrences([(2 * n, 1) for n in range(1, 20)]), learning=True)
    return table.state()
