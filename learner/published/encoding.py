"""A learner's weights as messages: first what is not a table's row, then rows, by ranges that stay.

A full snapshot has a message for each range of so many rows, by their numbers in the learner's table. Rows never move,
so a range in which nothing has changed gives the same bytes as the last time.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from learner.adaf2m2.taken import VALUES
from learner.config import Values
from learner.content.known import CONTENT
from learner.content.stand_ins import StandIns
from learner.content.starts import ContentStarts
from learner.fast.predictor import FastPredictor
from learner.learner import Learner
from learner.published.changed import AnyLearner, Changed
from learner.published.messages import NUM_BYTES, message, message_of_values
from learner.tables.rows import PUBLISH
from learner.tables.table import Table
from learner.tasks.fast import TaskPredictors

SERVED = {VALUES, "w", "v", CONTENT}
"""Groups of a row that a prediction needs; the others are an optimiser's."""
_AIM = 1 << 20
"""Bytes of a range of rows, or half of it: the fewer rows it has, the more ranges stay as they are."""
_KEY_AND_FIELD = 9


def take_changed(learner: AnyLearner) -> Changed:
    """What has changed since the last call."""
    if not isinstance(learner, Learner):
        return learner.take_changed()
    tables = all_tables(learner)
    return Changed(
        tuple(table.take_touched(PUBLISH) for table in tables),
        tuple(table.take_evicted() for table in tables),
        tuple(starts.take_changed() for starts in _starts(learner)),
    )


def _starts(learner: Learner) -> list[ContentStarts]:
    parts = [*([] if learner.fast is None else [learner.fast]), *learner.others.parts]
    return [starts for part in parts for starts in part.starts]


def stand_ins_of(fast: FastPredictor | None, others: TaskPredictors) -> list[StandIns]:
    """What stands for new items and users in every fast part, in the order in which a snapshot has them."""
    parts = [*([] if fast is None else [fast]), *others.parts]
    return [starts for part in parts for starts in part.starts]


def tables_of(fast: FastPredictor | None, table: Table, others: TaskPredictors) -> list[Table]:
    """Every table, in the order in which a snapshot has them."""
    contents = [starts.content for starts in stand_ins_of(fast, others)]
    return [table, *([fast.cross_table] if fast is not None else []), *others.tables, *contents]


def all_tables(learner: Learner) -> list[Table]:
    """A learner's, in the same order."""
    return tables_of(learner.fast, learner.table, learner.others)


def encode_snapshot(learner: AnyLearner, changed: Changed | None, values: Values = "float32") -> Iterator[bytes]:
    """Messages: dense weights, then the rows that have changed, or every row in use if that is None.

    They are made one by one, while the learner must not learn.

    Args:
        learner: whose weights.
        changed: from `take_changed`.
        values: what the values of tables are rounded to.
    """
    if not isinstance(learner, Learner):
        yield from learner.encode_snapshot(changed, values)
        return
    yield message(_head(learner, changed))
    yield from encode_rows(all_tables(learner), None if changed is None else changed.rows, values)


def encode_rows(
    tables: Sequence[Table],
    changed: Sequence[np.ndarray] | None,
    values: Values,
    chosen: Callable[[int, np.ndarray], np.ndarray] = lambda _, rows: rows,
) -> Iterator[bytes]:
    """Messages of rows of tables.

    Args:
        tables: the tables.
        changed: rows of each, or every row in use if that is None.
        values: what their values are rounded to.
        chosen: those of some rows of a table, by its number, that are wanted.
    """
    for n, table in enumerate(tables):
        table.fetch()
        for found in _ranges(table, rows_per_message(table, values), changed[n] if changed is not None else None):
            rows = chosen(n, found)
            if not len(rows):
                continue
            arrays = {f"{n}.keys": table.arrays.key_R[rows], f"{n}.fields": table.arrays.field_R[rows]}
            served = {f"{n}.values.{name}": table.values[name][rows] for name in table.values if name in SERVED}
            yield message_of_values(arrays, served, values)


def _head(learner: Learner, changed: Changed | None) -> dict[str, np.ndarray]:
    arrays = {f"{n}.evicted": keys for n, keys in enumerate(changed.evicted)} if changed is not None else {}
    if learner.fast is not None:
        arrays |= {f"fast.{name}": value for name, value in learner.fast.dense.served().items()}
    if learner.deep is not None:
        arrays |= learner.deep.weights()
    for n, starts in enumerate(_starts(learner)):
        of_starts = starts.served() if changed is None else changed.starts[n]
        arrays |= {f"starts.{n}.{name}": value for name, value in of_starts.items()}
    for n, part in enumerate(learner.others.parts):
        arrays |= {f"task.{n}.{name}": value for name, value in part.dense.served().items()}
    return arrays


def rows_per_message(table: Table, values: Values) -> int:
    """Rows of a range: a power of two, so that a range costs at most a megabyte."""
    width = sum(group.width for group in table.groups if group.name in SERVED)
    return 1 << max(0, (_AIM // (_KEY_AND_FIELD + width * NUM_BYTES[values])).bit_length() - 1)


def _ranges(table: Table, size: int, changed: np.ndarray | None) -> Iterator[np.ndarray]:
    """Rows in use of each range of the table, or those that have changed, so many at a time."""
    if changed is not None:
        yield from (changed[at : at + size] for at in range(0, len(changed), size))
        return
    for begin in range(0, table.end, size):
        rows = begin + np.flatnonzero(table.arrays.key_R[begin : min(begin + size, table.end)])
        if len(rows):
            yield rows
