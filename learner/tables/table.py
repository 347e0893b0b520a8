"""Rows of values for ids that come and go, in arrays that never move.

An id is a 64-bit key that says which value of which field it is; key 0 is no value. Its row is found, made, counted
and given its first values by one compiled call for a whole block of occurrences.

Legend: R rows, W values of a group, F fields, N occurrences or ids.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from learner.tables.admission import Admission
from learner.tables.groups import MAX_ROWS, Group, check, start_of
from learner.tables.index import Index, SharedIndex
from learner.tables.memory import is_shared, plain, reserve, zeros
from learner.tables.rows import (
    CHECKPOINT,
    EVERYONE,
    EXCHANGE,
    NEWER_HERE,
    NEXT,
    NUM_REFUSED,
    PUBLISH,
    Occurrences,
    Rows,
    Slots,
    Start,
    assign,
    fill_many,
    release_keys,
    release_stale,
    take_marked,
)
from learner.tables.saved import changes_of, restore, state_of

_BYTES_PER_ROW = 8 + 1 + 8 + 1
"""Key, field, last event time, marks."""


class TableFullError(RuntimeError):
    """Rows were to be put into a table that has none left."""


class Table:
    """Key -> row, with admission by occurrence and eviction by event time.

    Row 0 belongs to unknown ids: zeros, never trained. What rows hold, and which rows there are, does not depend on how
    a stream is cut into calls.

    Memory per id: `bytes_per_id`. For values w, G (1 wide) and v, H (16 wide), 136 bytes of values, 8 of key, 8 of
    event time, 1 of field and 1 of marks are 154, and 20 to 40 of the index, which is .3 to .6 full: 174 to 194.

    Args:
        groups: the values of a row, in this order in `block_RX`.
        min_counts: per field, the occurrence from which an id has a row.
        max_rows: ids at the same time. Their addresses are reserved at once, their memory is not.
        seed: of new rows' values.
        counted: distinct ids that a generation of the admission filter takes.
        followed: whether somebody is told which ids are evicted (`take_evicted`).

    Raises:
        ValueError: sizes that make no sense.
        MemoryRefusedError: so many rows cannot be reserved.

    >>> table = Table([Group("w", 1), Group("v", 4, stds=(0.0, 0.1))], min_counts=[1, 2], max_rows=100)
    >>> keys, fields, ts = np.array([5, 8, 5, 8], np.uint64), np.array([0, 1, 0, 1], np.uint8), np.arange(4)
    >>> table.rows(keys, fields, ts, learning=True).tolist()   # 8 is admitted at its second occurrence
    [1, 0, 1, 2]
    >>> table.values["v"].shape, table.num_rows, table.take_touched(EVERYONE).tolist()
    ((101, 4), 2, [1, 2])
    """

    def __init__(
        self,
        groups: Sequence[Group],
        min_counts: Sequence[int],
        max_rows: int,
        seed: int = 0,
        counted: int = 1 << 20,
        *,
        followed: bool = True,
    ) -> None:
        check(groups, len(min_counts), max_rows, counted)
        self.groups, self.max_rows = tuple(groups), max_rows
        min_count_F = np.array(min_counts, np.int64)
        self.index = SharedIndex(max_rows) if is_shared() else Index()
        self.admission = Admission(counted, min_count_F)
        width, num_rows = sum(group.width for group in groups), max_rows + 1
        self.arrays = Rows(
            reserve((num_rows, width), np.float32),
            reserve((num_rows,), np.uint64),
            reserve((num_rows,), np.uint8),
            reserve((num_rows,), np.int64),
            reserve((num_rows,), np.uint8),
            reserve((num_rows,), np.int32),
            zeros((5,), np.int64),
            self.admission.cells_C2,
            self.admission.counters_2,
            self.admission.noted_N,
            self.admission.num_noted_1,
        )
        self.arrays.counters_5[NEXT] = 1
        self._start = start_of(groups, min_count_F, seed, counted)
        self.values: dict[str, np.ndarray] = {}
        """(R, W) per group: views of one block."""
        begin = 0
        for group in groups:
            self.values[group.name] = self.arrays.block_RX[:, begin : begin + group.width]
            begin += group.width
        self._followed = followed
        self.evicted: list[np.ndarray] = []
        self.fetch: Callable[[], None] = lambda: None
        """Brings here what is newer elsewhere; whoever takes rows out of the table calls it first."""

    # What there is ----------------------------------------------------------------------------------------------

    @property
    def num_rows(self) -> int:
        """Ids that have a row."""
        return len(self.index)

    @property
    def num_refused(self) -> int:
        """Occurrences of ids that would have got a row, had there been one left."""
        return int(self.arrays.counters_5[NUM_REFUSED])

    @property
    def end(self) -> int:
        """Rows from here on were never used."""
        return int(self.arrays.counters_5[NEXT])

    def bytes_per_id(self) -> tuple[float, float]:
        """Least and most memory that an id costs, bytes: just before, and just after the index has grown."""
        row = 4 * self.arrays.block_RX.shape[1] + _BYTES_PER_ROW
        return row + 12 / 0.6, row + 12 / 0.3

    def norms(self, rows_N: np.ndarray, group: str) -> np.ndarray:
        """L2 norms of rows' values, shape (N,)."""
        values_NW = self.values[group][rows_N]
        norms_N: np.ndarray = np.sqrt(np.einsum("nw,nw->n", values_NW, values_NW))
        return norms_N

    # Ids come ---------------------------------------------------------------------------------------------------

    def find(self, keys_N: np.ndarray) -> np.ndarray:
        """Row of each key, 0 if it has none; int32. Nothing changes."""
        return self.index.find(plain(keys_N, np.uint64))

    def rows(
        self, keys_N: np.ndarray, fields_N: np.ndarray, ts_N: np.ndarray, *, learning: bool | np.ndarray
    ) -> np.ndarray:
        """Row of each occurrence, int32; valid until the next `evict` or `drop`.

        Args:
            keys_N: uint64.
            fields_N: uint8, below F.
            ts_N: event time, ms, int64.
            learning: of all, or of each: whether an id that is new and admitted gets a row, and when it was seen is
                noted. A new row is touched for all consumers, one that is only seen again for checkpoints.

        Raises:
            ValueError: a field that there is not.
        """
        if learning is False:
            return self.find(keys_N)
        learn_N = np.ones(len(keys_N), np.uint8) if learning is True else plain(learning, np.uint8)
        ids = Occurrences(plain(keys_N, np.uint64), plain(fields_N, np.uint8), plain(ts_N, np.int64), learn_N)
        lengths = [len(array) for array in ids]
        if len(set(lengths)) > 1:
            raise ValueError("{} keys, {} fields, {} times and {} marks: they must be as many".format(*lengths))
        return self._assign(ids, self._start)

    def _assign(self, ids: Occurrences, start: Start) -> np.ndarray:
        rows_N, done = np.empty(len(ids.keys_N), np.int32), 0
        while (done := assign(self._slots, self.arrays, start, ids, rows_N, done)) != len(rows_N):
            if done < 0:
                raise ValueError(
                    f"field {ids.fields_N[-1 - done]} must be below {len(start.min_count_F)}, the declared ones"
                )
            self.index.grow()
        return rows_N

    @property
    def _slots(self) -> Slots:
        return Slots(self.index.keys_S, self.index.rows_S, self.index.size_1)

    def put(self, keys_N: np.ndarray, fields_N: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Give ids the values of a snapshot, (N, W) per group; returns their rows. Groups not named start as new.

        Raises:
            TableFullError: there are fewer rows left than new ids; as many as fitted have theirs.
            ValueError: a group that there is not, a key that is 0.
        """
        unknown = sorted(set(values) - set(self.values))
        if unknown:
            raise ValueError(f"no such values: {', '.join(unknown)}; there are {', '.join(self.values)}")
        if not np.all(keys_N):
            raise ValueError("a key is 0, which stands for no value: it cannot have values")
        self.fetch()
        rows_N = self.admitted(keys_N, fields_N)
        known_N = rows_N > 0
        for name, values_NW in values.items():
            self.values[name][rows_N[known_N]] = values_NW[known_N]
        self.mark(rows_N[known_N])
        if not known_N.all():
            raise TableFullError(f"the table holds {self.max_rows:,} ids and is full; allow more rows")
        return rows_N

    def admitted(self, keys_N: np.ndarray, fields_N: np.ndarray) -> np.ndarray:
        """Rows of ids, made at once where they have none, however seldom they occurred; 0 if there is none left."""
        at_once = self._start._replace(min_count_F=np.ones_like(self._start.min_count_F))
        keys_N, fields_N = plain(keys_N, np.uint64), plain(fields_N, np.uint8)
        ids = Occurrences(keys_N, fields_N, np.zeros(len(keys_N), np.int64), np.ones(len(keys_N), np.uint8))
        return self._assign(ids, at_once)

    def first_values(self, keys_N: np.ndarray, fields_N: np.ndarray) -> np.ndarray:
        """What rows of ids begin with, shape (N, X): it depends on nothing else."""
        block_NX = np.empty((len(keys_N), self.arrays.block_RX.shape[1]), np.float32)
        fill_many(self._start, plain(keys_N, np.uint64), plain(fields_N, np.uint8), block_NX)
        return block_NX

    # What has changed -------------------------------------------------------------------------------------------

    def mark(self, rows_N: np.ndarray) -> None:
        """Rows have changed."""
        self.arrays.touched_R[rows_N] |= EVERYONE | NEWER_HERE
        self.arrays.touched_R[0] = 0

    def take_touched(self, consumer: int) -> np.ndarray:
        """Rows changed since this consumer (`PUBLISH`, `CHECKPOINT`, `EXCHANGE`) last asked, ascending, int32.

        For checkpoints, rows that were given back are among them: their key is 0.
        """
        self.fetch()
        return take_marked(self.arrays.touched_R, self.end, consumer)

    # Ids go -----------------------------------------------------------------------------------------------------

    def evict(self, before_ts: int, max_scanned: int) -> np.ndarray:
        """Give back rows of ids last seen before `before_ts` (event time, ms); returns their keys, uint64.

        At most `max_scanned` rows are looked at; the next call goes on behind them, and round again. An id that comes
        back later starts anew.
        """
        keys_N = release_stale(self._slots, self.arrays, before_ts, max_scanned)
        self._note_evicted(keys_N)
        return keys_N

    def _note_evicted(self, keys_N: np.ndarray) -> None:
        if self._followed and len(keys_N):
            self.evicted.append(keys_N)

    def take_evicted(self) -> np.ndarray:
        """Keys evicted since the last call, without those that have come back; ascending, uint64."""
        keys_N = np.unique(np.concatenate([np.zeros(0, np.uint64), *self.evicted]))
        self.evicted = []
        gone_N: np.ndarray = keys_N[self.find(keys_N) == 0]
        return gone_N

    def drop(self, keys_N: np.ndarray) -> int:
        """Give back the rows of ids (a scorer following the learner's evictions); returns how many had one."""
        return int(release_keys(self._slots, self.arrays, plain(keys_N, np.uint64)))

    def forget(self, keys_N: np.ndarray) -> None:
        """Give back the rows of ids, and have whoever follows know it, as `evict` does."""
        self.drop(keys_N)
        self._note_evicted(keys_N)

    # Checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Copies of used rows, free rows, counters and filter: all that the future depends on."""
        return state_of(self)

    def take_changes(self, *, whole: bool = False) -> dict[str, np.ndarray]:
        """Copies of what has changed since this was last called, or since `restore`, for the next checkpoint.

        Which is: rows touched, numbers of rows given back, the free rows that changed, counters, and what the filter
        has counted. What it costs depends on how much that is, but for a look at the marks, a byte per row.

        Args:
            whole: take `state()` instead.
        """
        return changes_of(self, whole=whole)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state()`, bit for bit, row numbers included.

        All of it counts as changed for whoever publishes, who has to begin anew, and nothing of it for checkpoints.

        Raises:
            ValueError: this table has other values, fewer rows, or a smaller filter.
        """
        restore(self, state)


__all__ = ["CHECKPOINT", "EVERYONE", "EXCHANGE", "MAX_ROWS", "PUBLISH", "Group", "Table", "TableFullError"]
