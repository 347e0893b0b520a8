"""A stretch of time, summed up by cohort; buckets add up, so any two neighbours can be merged without loss."""

import zlib
from typing import Self

import msgspec
import numpy as np

NUM_BINS = 100
"""Bins of the histograms of predictions, evenly over [0, 1]."""
COUNT, WEIGHT, POSITIVE, PREDICTED, LOSS, LOSS_SQUARED, BASELINE_LOSS = range(7)
UNSEEN_USER, UNSEEN_ITEM, USER_NORM, ITEM_NORM, ADAPTER = range(7, 12)
"""Columns of `sums_CM`; the adapter's weights per field begin at ADAPTER."""
NTH_COLUMNS = 5
"""COUNT to LOSS, by n-th impression and by arrival."""


class _Stored(msgspec.Struct, array_like=True):
    start_ms: int
    end_ms: int
    first_ts: int
    last_ts: int
    version: int
    late_labels: int
    uauc: list[float]
    shape: list[int]
    arrays: bytes
    arrivals: dict[int, list[list[float]]]
    alarms: list[str]


class Bucket:
    """Sums over the samples of a stretch of time.

    Args:
        num_cohorts: C.
        num_fields: F, for the adapter's weights.
        num_nth: length of the n-th impression curve.
        num_user_cohorts: cohorts that a user passes on its way from cold to warm.
    """

    def __init__(self, num_cohorts: int, num_fields: int, num_nth: int, num_user_cohorts: int) -> None:
        self.start_ms = self.end_ms = 0
        """Wall clock."""
        self.first_ts = self.last_ts = 0
        """Event time."""
        self.version = 0
        """Version of the weights last published."""
        self.late_labels = 0
        """Corrections whose prediction was no longer known, and which are in no figure."""
        self.uauc = [0.0, 0.0]
        """Sum of AUC within users, each weighted by its samples; and the weights."""
        self.histogram_2C2K = np.zeros((2, num_cohorts, 2, NUM_BINS), np.float32)
        """[model or popularity baseline, cohort, label, bin] -> weight."""
        self.sums_CM = np.zeros((num_cohorts, ADAPTER + num_fields), np.float64)
        self.nth_NM = np.zeros((num_nth, NTH_COLUMNS), np.float64)
        self.arrivals: dict[int, np.ndarray] = {}
        """Day of a user's first impression -> sums by user cohort."""
        self.alarms: list[str] = []
        self._num_user_cohorts = num_user_cohorts

    def arrival(self, day: int) -> np.ndarray:
        """Sums of the users that came on a day (days since 1970), shape (user cohorts, NTH_COLUMNS)."""
        return self.arrivals.setdefault(day, np.zeros((self._num_user_cohorts, NTH_COLUMNS)))

    def add(self, other: "Bucket") -> Self:
        """Take a later bucket in."""
        self.start_ms = min(self.start_ms or other.start_ms, other.start_ms)
        self.end_ms = max(self.end_ms, other.end_ms)
        self.first_ts = min(self.first_ts or other.first_ts, other.first_ts or self.first_ts)
        self.last_ts, self.version = max(self.last_ts, other.last_ts), max(self.version, other.version)
        self.late_labels += other.late_labels
        self.uauc = [a + b for a, b in zip(self.uauc, other.uauc, strict=True)]
        self.histogram_2C2K += other.histogram_2C2K
        self.sums_CM += other.sums_CM
        self.nth_NM += other.nth_NM
        for day, sums in other.arrivals.items():
            self.arrival(day)[:] += sums
        self.alarms += other.alarms
        return self

    def empty_like(self) -> "Bucket":
        """A bucket of the same shape without anything in it."""
        num_cohorts, columns = self.sums_CM.shape
        return Bucket(num_cohorts, columns - ADAPTER, len(self.nth_NM), self._num_user_cohorts)

    def encode(self) -> bytes:
        """For the history."""
        num_cohorts, columns = self.sums_CM.shape
        arrays = (self.histogram_2C2K, self.sums_CM.astype(np.float32), self.nth_NM.astype(np.float32))
        stored = _Stored(
            self.start_ms,
            self.end_ms,
            self.first_ts,
            self.last_ts,
            self.version,
            self.late_labels,
            self.uauc,
            [num_cohorts, columns - ADAPTER, len(self.nth_NM), self._num_user_cohorts],
            zlib.compress(b"".join(a.tobytes() for a in arrays), 1),
            {day: sums.tolist() for day, sums in self.arrivals.items()},
            self.alarms,
        )
        return msgspec.msgpack.encode(stored)

    @staticmethod
    def decode(data: bytes) -> "Bucket":
        """From the history."""
        stored = msgspec.msgpack.decode(data, type=_Stored)
        bucket = Bucket(*stored.shape)
        for name in ("start_ms", "end_ms", "first_ts", "last_ts", "version", "late_labels", "uauc", "alarms"):
            setattr(bucket, name, getattr(stored, name))
        flat = np.frombuffer(zlib.decompress(stored.arrays), np.float32)
        at = 0
        for name in ("histogram_2C2K", "sums_CM", "nth_NM"):
            shape = getattr(bucket, name)
            shape[...] = flat[at : at + shape.size].reshape(shape.shape)
            at += shape.size
        bucket.arrivals = {day: np.array(sums) for day, sums in stored.arrivals.items()}
        return bucket


def merge(buckets: list[Bucket]) -> Bucket:
    """The sum of at least one bucket."""
    total = buckets[0].empty_like()
    for bucket in buckets:
        total.add(bucket)
    return total
