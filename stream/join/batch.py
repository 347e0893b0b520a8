"""Records of one call as columns, with numbers in place of ids.

Legend: N records, W feedback that waited for one of them.
"""

from collections.abc import Sequence
from hashlib import sha1
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from state_store.records import WIDTH, flat
from stream.join.kernels.arrays import RECORD_DTYPE, Records
from stream.join.kernels.words import FEEDBACK, IMPRESSION
from stream.join.memory.partition import Partition, Row

_BARE = 7
"""Values of an impression, and of feedback without a value."""
_NO_BYTES = np.zeros(0, np.uint8)
# As those of cores: compiled functions are made once for each kind of array.
_NO_BYTES.flags.writeable = False


class Batch(msgspec.Struct, frozen=True):
    """What one call brings."""

    rows: Sequence[Row]
    slots: list[int]
    """Numbers of impressions, of those that were shown and of those that feedback is about."""
    users: list[int]
    items: list[int]
    records: Records
    waited: list[Row]
    """Feedback that waited for one of them, W."""


def _columns_of(rows: Sequence[Row]) -> list[Sequence[Any]]:
    """Rows as columns: seven, or eight where one has a value; what a row has not is False."""
    width = len(rows[0])
    if width >= _BARE and all(len(row) == width for row in rows):
        return list(zip(*rows, strict=True))
    values = flat(rows)
    return [values[at::WIDTH] for at in range(WIDTH)]


def _of_which(values: Sequence[Any], is_event: list[bool] | None) -> Sequence[Any]:
    return values if is_event is None else list(compress(values, is_event))


def batch_of(rows: Sequence[Row], cores: bytes, partition: Partition, *, is_sampled: bool) -> Batch:
    """Columns of records; ids that are new to the partition are given numbers.

    Args:
        rows: in the form that `lua/apply` documents.
        cores: of its impressions, one behind the other.
        partition: whose they are.
        is_sampled: whether it is to be found which may become negatives.
    """
    num, columns = len(rows), _columns_of(rows)
    kind_N = np.array(columns[0], np.uint8)
    is_event_N = (kind_N == IMPRESSION) | (kind_N == FEEDBACK)
    some = None if is_event_N.all() else is_event_N.tolist()
    imps, users, items, what = (_of_which(column, some) for column in columns[3:7])
    slots, user_slots, item_slots = (
        partition.number_imps(imps),
        partition.number_users(users),
        partition.number_items(items),
    )
    records_N = np.zeros(num, RECORD_DTYPE)
    where = slice(None) if some is None else is_event_N
    is_feedback_N = kind_N == FEEDBACK
    what_N = np.zeros(num, np.int64)
    what_N[where] = what
    sizes_N = np.where(is_feedback_N, 0, what_N)
    records_N["kind"], records_N["ts"] = kind_N, columns[2]
    records_N["held"][where], records_N["user"][where], records_N["item"][where] = slots, user_slots, item_slots
    records_N["what"] = what_N - is_feedback_N
    records_N["core_at"] = np.cumsum(sizes_N) - sizes_N
    records_N["value"] = np.nan
    if len(columns) > _BARE:
        # False is where none was given.
        records_N["value"] = [np.nan if value is False else value for value in columns[_BARE]]
    if is_sampled:
        records_N["chance"][where] = [int(sha1(imp.encode()).hexdigest()[:8], 16) / 2**32 for imp in imps]
    waited = _waited(rows, partition, records_N) if partition.waiting else []
    waiting_W = np.zeros(len(waited), RECORD_DTYPE)
    waiting_users = partition.number_users([str(row[4]) for row in waited])
    waiting_items = partition.number_items([str(row[5]) for row in waited])
    for n, row in enumerate(waited):
        of = waiting_W[n]
        of["ts"], of["what"], of["value"] = row[2], int(row[6]) - 1, row[7] if len(row) > 7 else np.nan  # type: ignore[call-overload]
    waiting_W["user"], waiting_W["item"] = waiting_users, waiting_items
    records = Records(records_N, waiting_W, np.frombuffer(cores, np.uint8) if cores else _NO_BYTES)
    return Batch(rows, slots, [*user_slots, *waiting_users], [*item_slots, *waiting_items], records, waited)


def _waited(rows: Sequence[Row], partition: Partition, records_N: np.ndarray) -> list[Row]:
    """Feedback that waits for impressions, and of each which."""
    waited = list[Row]()
    for n, row in enumerate(rows):
        if row[0] == IMPRESSION and (some := partition.waiting.get(str(row[3]))):
            records_N["waiting_at"][n] = len(waited)
            waited += some
            records_N["waiting_end"][n] = len(waited)
    return waited
