"""Records of one call as columns, with numbers in place of ids.

Legend: N records, W feedback that waited for one of them.
"""

from collections.abc import Sequence
from hashlib import sha1

import msgspec
import numpy as np

from stream.join.kernels.arrays import RECORD_DTYPE, Records
from stream.join.kernels.words import FEEDBACK, IMPRESSION
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Partition, Row
from stream.join.records import RecordColumns

_NO_BYTES = np.zeros(0, np.uint8)
# As those of cores: compiled functions are made once for each kind of array.
_NO_BYTES.flags.writeable = False


class Batch(msgspec.Struct, frozen=True):
    """What one call brings."""

    columns: RecordColumns
    slots: np.ndarray
    """Numbers of impressions, of those that were shown and of those that feedback is about."""
    users: np.ndarray
    items: np.ndarray
    records: Records
    waited: list[Row]
    """Feedback that waited for one of them, W."""


def batch_of(rows: Sequence[Row], cores: bytes, partition: Partition, *, is_sampled: bool) -> Batch:
    """Columns of records; ids that are new to the partition are given numbers.

    Args:
        rows: in the form that `lua/apply` documents.
        cores: of its impressions, one behind the other.
        partition: whose they are.
        is_sampled: whether it is to be found which may become negatives.
    """
    columns = rows if isinstance(rows, RecordColumns) else RecordColumns.of_rows(rows)
    are_events_N, kind_N, what_N = columns.are_events, columns.kinds_N, columns.what_N
    where = None if are_events_N.all() else are_events_N
    imps, users, items = (columns.ids(which, where) for which in range(3))
    slots, user_slots, item_slots = (
        partition.number_imps(imps),
        partition.number_users(users),
        partition.number_items(items),
    )
    records_N = np.zeros(len(columns), RECORD_DTYPE)
    some = slice(None) if where is None else where
    is_feedback_N = kind_N == FEEDBACK
    sizes_N = np.where(is_feedback_N, 0, what_N)
    records_N["kind"], records_N["ts"] = kind_N, columns.ts_N
    records_N["held"][some], records_N["user"][some], records_N["item"][some] = slots, user_slots, item_slots
    records_N["what"] = what_N - is_feedback_N
    records_N["core_at"] = np.cumsum(sizes_N) - sizes_N
    records_N["value"] = columns.values_N
    if is_sampled:
        ids = imps.several(0, len(slots))
        records_N["chance"][some] = [int(sha1(imp.encode()).hexdigest()[:8], 16) / 2**32 for imp in ids]
    waited = _waited(columns, partition, records_N) if partition.waiting else []
    waiting_W = np.zeros(len(waited), RECORD_DTYPE)
    waiting_users = partition.number_users(texts_of([str(row[4]) for row in waited]))
    waiting_items = partition.number_items(texts_of([str(row[5]) for row in waited]))
    for n, row in enumerate(waited):
        of = waiting_W[n]
        of["ts"], of["what"], of["value"] = row[2], int(row[6]) - 1, row[7] if len(row) > 7 else np.nan  # type: ignore[call-overload]
    waiting_W["user"], waiting_W["item"] = waiting_users, waiting_items
    records = Records(records_N, waiting_W, np.frombuffer(cores, np.uint8) if cores else _NO_BYTES)
    with_users, with_items = np.append(user_slots, waiting_users), np.append(item_slots, waiting_items)
    return Batch(columns, slots, with_users, with_items, records, waited)


def _waited(columns: RecordColumns, partition: Partition, records_N: np.ndarray) -> list[Row]:
    """Feedback that waits for impressions, and of each which."""
    waited, at = list[Row](), np.flatnonzero(columns.kinds_N == IMPRESSION)
    for n, imp in zip(at.tolist(), columns.ids(0, at).several(0, len(at)), strict=True):
        if some := partition.waiting.get(imp):
            records_N["waiting_at"][n] = len(waited)
            waited += some
            records_N["waiting_end"][n] = len(waited)
    return waited
