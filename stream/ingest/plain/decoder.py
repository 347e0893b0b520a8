"""Decodes batches: what is plain in compiled code, everything else record by record.

Legend: N records.
"""

import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings, HistorySettings
from learner.samples.layout import CORE_HEAD, Layout
from state_store.config import ActionSettings
from stream.ingest.plain.batch import read_records
from stream.ingest.plain.declared import PLAIN_DTYPE, Lot, declared_by, scratch_for
from stream.ingest.rows import Decoded, Record, RowDecoder
from stream.join.kernels.words import FEEDBACK, IMPRESSION
from stream.join.records import RecordColumns, Row
from stream.sections import EventSettings

_TEXT_MARKS = 32
"""What msgpack puts before five texts, at most."""
_PER_BYTE = 5
"""A byte of an event is copied once, and each second one can be a value, whose key has eight."""


class _Read(NamedTuple):
    """What compiled code has read of a batch."""

    found_N: np.ndarray
    text: bytes
    cores: np.ndarray
    end: int


class PlainDecoder:
    """Decodes as `RowDecoder` does, with the same arguments; rows are columns."""

    def __init__(
        self,
        impressions_topic: str,
        fields: Sequence[FieldSettings],
        actions: ActionSettings,
        limits: EventSettings,
        histories: Sequence[HistorySettings] = (),
        *,
        num_partitions: int = 0,
        reroute: Callable[[str, int, str, bytes], None] | None = None,
    ) -> None:
        self._others = RowDecoder(
            impressions_topic, fields, actions, limits, histories, num_partitions=num_partitions, reroute=reroute
        )
        layout = Layout(fields, actions.names, histories)
        self._has_codes = layout.has_codes
        self._declared = declared_by(layout, fields, limits, num_partitions)
        self._impressions_topic, self._limits = impressions_topic, limits
        self._most_per_record = CORE_HEAD.size + _TEXT_MARKS + len(self._declared.template)

    def warm_up(self) -> float:
        """Have everything compiled before the first record comes; returns the seconds it took."""
        began = time.perf_counter()
        self._read([b"{}"], [0], FEEDBACK, 0, 0)
        return time.perf_counter() - began

    def decode(self, topic: str, partition: int, records: Sequence[Record], now_ms: int) -> Decoded:
        """Decode what was read of one topic partition.

        Args:
            topic: impressions or feedback.
            partition: where the records lie.
            records: in order.
            now_ms: wall clock.
        """
        if self._has_codes or not records:
            # Each impression is encoded by what it says.
            return self._others.decode(topic, partition, records, now_ms)
        kind = IMPRESSION if topic == self._impressions_topic else FEEDBACK
        values = [record.value or b"" for record in records]
        latest = now_ms + self._limits.max_ahead_ms
        read = self._read(values, [record.timestamp or 0 for record in records], kind, partition, latest)
        found_N = read.found_N
        is_other_N = found_N["kind"] == 0
        num_misplaced = 0
        if self._limits.misplaced == "count":
            num_misplaced = int(found_N["is_misplaced"].sum())
        else:
            is_other_N |= found_N["is_misplaced"] != 0
        columns = RecordColumns(
            found_N["kind"].copy(),
            np.array([record.offset for record in records], np.int64),
            found_N["ts"].copy(),
            found_N["what"].copy(),
            found_N["value"].copy(),
            found_N["ids"].copy(),
            read.text,
        )
        others = np.flatnonzero(is_other_N)
        if not len(others):
            return Decoded(columns, [read.cores[: read.end].tobytes()], [], num_misplaced)
        some = self._others.decode(topic, partition, [records[n] for n in others.tolist()], now_ms)
        cores = self._put(columns, read, others, some)
        return Decoded(columns, cores, some.dead, num_misplaced + some.num_misplaced)

    def _read(self, values: Sequence[bytes], produced: Sequence[int], topic: int, partition: int, latest: int) -> _Read:
        text, declared = b"".join(values), self._declared
        num = len(values)
        produced_N = np.array(produced, np.int64)
        # Some producers give no timestamp, or one in seconds: an age by it would make no sense.
        produced_N[(produced_N < self._limits.min_ts_ms) | (produced_N > latest)] = 0
        found_N = np.zeros(num, PLAIN_DTYPE)
        cores = np.empty(_PER_BYTE * len(text) + num * self._most_per_record, np.uint8)
        lot = Lot(
            np.frombuffer(text or b"\0", np.uint8),
            np.array([*accumulate(map(len, values))], np.int64),
            produced_N,
            topic,
            partition,
            latest,
            _is_utf8(text),
        )
        end = read_records(lot, declared, scratch_for(declared), found_N, cores)
        return _Read(found_N, text, cores, int(end))

    @staticmethod
    def _put(columns: RecordColumns, read: _Read, others: np.ndarray, decoded: Decoded) -> list[bytes]:
        """Put rows of other records in their place among the columns; returns all cores in order."""
        rows: Sequence[Row] = decoded.rows
        is_impression_N = columns.kinds_N == IMPRESSION
        ends_N = np.cumsum(np.where(is_impression_N, columns.what_N, 0))
        for column, at in ((columns.kinds_N, 0), (columns.ts_N, 2)):
            column[others] = [row[at] for row in rows]
        columns.what_N[others] = 0
        columns.values_N[others] = np.nan
        are_events = [n for n, row in enumerate(rows) if row[0] in (IMPRESSION, FEEDBACK)]
        columns.put_rows(others[are_events], [rows[n] for n in are_events])
        own, pieces, at = iter(decoded.cores), list[bytes](), 0
        for n, row in zip(others.tolist(), rows, strict=True):
            end = int(ends_N[n])
            size = int(read.found_N["what"][n]) if is_impression_N[n] else 0
            pieces.append(read.cores[at : end - size].tobytes())
            if row[0] == IMPRESSION:
                pieces.append(next(own))
            at = end
        pieces.append(read.cores[at : read.end].tobytes())
        return pieces


def _is_utf8(text: bytes) -> bool:
    """Whether all of a text is UTF-8: what is plain of it is by itself, as it begins and ends with ASCII."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
