"""What becomes of rows of several processes, beside the equations in plain NumPy."""

import numpy as np

from learner.group.precision import Precision
from learner.group.rows import SharedRows
from learner.tables.table import Group, Table

PRIOR, SQUARE_PRIOR = 5.0, 0.2
GROUPS = [Group("w", 1), Group("G", 1), Group("v", 2, stds=(0.1,)), Group("H", 2)]


def shared_rows() -> SharedRows:
    table = Table(GROUPS, [1], max_rows=50, seed=3)
    return SharedRows(table, np.array([True]), Precision(GROUPS, np.array([PRIOR]), SQUARE_PRIOR))


def move(rows: SharedRows, keys: list[int], seed: int) -> dict[int, np.ndarray]:
    """Learn something of each key; returns what its row has become."""
    table, rng = rows.table, np.random.default_rng(seed)
    keys_N = np.array(keys, np.uint64)
    rows_N = table.rows(keys_N, np.zeros(len(keys), np.uint8), np.full(len(keys), seed), learning=True)
    table.arrays.block_RX[rows_N] += np.abs(rng.normal(size=(len(keys), 6))).astype(np.float32)
    table.mark(rows_N)
    return {key: table.arrays.block_RX[row].astype(np.float64) for key, row in zip(keys, rows_N, strict=True)}


def exchange(ranks: list[SharedRows]) -> None:
    sent = [rank.take(len(ranks)) for rank in ranks]
    merged = [rank.merged([of[n] for of in sent]) for n, rank in enumerate(ranks)]
    for rank in ranks:
        for part in merged:
            rank.put(part)


def held(rank: SharedRows) -> dict[int, np.ndarray]:
    arrays, end = rank.table.arrays, rank.table.end
    return {int(arrays.key_R[row]): arrays.block_RX[row].copy() for row in np.flatnonzero(arrays.key_R[:end])}


def together(before: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
    """The equations of `learner/group/precision.py`, value by value."""
    merged = before.copy()
    for evidence in (1, 4, 5):
        merged[evidence] += sum(x[evidence] - before[evidence] for x in found)

    def precision(x: np.ndarray, value: int) -> float:
        return PRIOR + x[1] if value == 0 else float(np.sqrt(SQUARE_PRIOR + x[value + 2]))

    for value in (0, 2, 3):
        moved = sum((x[value] - before[value]) * precision(x, value) for x in found)
        merged[value] += moved / precision(merged, value)
    return merged


def test_rows_are_put_together_as_the_equations_say() -> None:
    ranks = [shared_rows() for _ in range(3)]
    before: dict[int, np.ndarray] = {}
    keys = [[1, 2, 3, 4], [2, 3, 9], [3, 30]]
    for step in range(3):
        found: dict[int, list[np.ndarray]] = {}
        for n, rank in enumerate(ranks):
            for key, values in move(rank, keys[(n + step) % 3], seed=10 * step + n).items():
                found.setdefault(key, []).append(values)
        exchange(ranks)
        for key, several in found.items():
            first = ranks[0].table.first_values(np.array([key], np.uint64), np.zeros(1, np.uint8))[0]
            expected = together(before.get(key, first.astype(np.float64)), several)
            for rank in ranks:
                np.testing.assert_allclose(held(rank)[key], expected, rtol=2e-5)
            before[key] = held(ranks[0])[key].astype(np.float64)
    for rank in ranks[1:]:
        assert {key: x.tolist() for key, x in held(rank).items()} == {
            key: x.tolist() for key, x in held(ranks[0]).items()
        }


def test_what_one_alone_has_touched_is_what_it_made_of_it() -> None:
    ranks = [shared_rows() for _ in range(2)]
    mine = move(ranks[0], [5, 6], seed=1)
    exchange(ranks)
    for key, values in mine.items():
        np.testing.assert_allclose(held(ranks[1])[key], values, rtol=1e-5)


def test_nothing_is_sent_twice() -> None:
    ranks = [shared_rows() for _ in range(2)]
    move(ranks[0], [5, 6], seed=1)
    exchange(ranks)
    assert [len(part["keys"]) for rank in ranks for part in rank.take(2)] == [0, 0, 0, 0]


def test_a_row_that_was_given_back_begins_anew() -> None:
    ranks = [shared_rows() for _ in range(2)]
    move(ranks[0], [5], seed=1)
    exchange(ranks)
    for rank in ranks:
        rank.table.drop(np.array([5], np.uint64))
    mine = move(ranks[0], [7], seed=2)
    exchange(ranks)
    np.testing.assert_allclose(held(ranks[1])[7], mine[7], rtol=1e-5)
