"""A stretch of time, summed up by cohort; buckets add up, so any two neighbours can be merged without loss."""

import zlib
from collections.abc import Callable, Sequence
from typing import Self

import msgspec
import numpy as np

from stream.monitor.figures.bootstrap import NUM_REPLICATES
from stream.monitor.figures.groups import Groups

NUM_BINS = 100
"""Bins of the histograms of predictions, evenly over [0, 1]."""

COUNT, WEIGHT, POSITIVE, PREDICTED, LOSS, LOSS_SQUARED, REFERENCE_LOSS, BENEFIT_SQUARED = range(8)
UNSEEN_USER, UNSEEN_ITEM, USER_NORM, ITEM_NORM, ADAPTER = range(8, 13)
"""Columns of `sums_CM`; the weights that the model gives its parts by state begin at ADAPTER."""
NTH_COLUMNS = 6
"""COUNT to LOSS_SQUARED, by n-th impression and by arrival."""

UAUC, UAUC_WEIGHT, BENEFIT, BENEFIT_WEIGHT, RANK_UAUC = range(5)
"""Last axis of `replicates_CR5`; RANK_UAUC has UAUC's weight."""

SEEN, NULL, NEW, AGE = range(4)
"""Columns of `features_GA`; the histogram of ages begins at AGE."""
NUM_AGES = 24
"""Bins of ages: below 1 s, then each twice as wide as the one before, up to 48 days and beyond."""
NORMS = 2
"""Rows of `features_GA` behind those of the fields: norm of the user, norm of the item."""

ARRIVAL_DAYS = 28
"""Newest days of arrival that are kept apart."""

_SCALARS = ("start_ms", "end_ms", "first_ts", "last_ts", "version", "late_labels", "unscored", "age_ms", "alarms")
_ARRAYS = ("histogram_2C2K", "sums_CM", "replicates_CR5", "nth_NM", "features_GA")


class _Stored(msgspec.Struct, array_like=True):
    start_ms: int
    end_ms: int
    first_ts: int
    last_ts: int
    version: int
    late_labels: int
    unscored: int
    age_ms: float
    shape: list[int]
    arrays: bytes
    arrivals: dict[int, list[list[float]]]
    alarms: list[str]
    groups: bytes = b""


class Bucket:
    """Sums over the samples of a stretch of time.

    A figure of the model stands beside that of a reference on the same samples: popularity, or frozen weights.

    Args:
        num_cohorts: C.
        num_fields: F; there are G = F + 2 rows of feature freshness.
        num_nth: length of the n-th impression curve.
        num_user_cohorts: cohorts that a user passes on its way from cold to warm.
        num_weights: weights that the model gives its parts by state; default: one per field.
    """

    def __init__(
        self,
        num_cohorts: int,
        num_fields: int,
        num_nth: int,
        num_user_cohorts: int,
        num_weights: int | None = None,
    ) -> None:
        self.start_ms = self.end_ms = 0
        """Wall clock."""
        self.first_ts = self.last_ts = 0
        """Event time."""
        self.version = 0
        """Version of the weights last published."""
        self.late_labels = 0
        """Corrections whose prediction was no longer known, and which are in no figure."""
        self.unscored = 0
        """Impressions without a figure: the reference had no weights for them, or the model predicted no number."""
        self.age_ms = 0.0
        """Sum over samples of the age of the reference's weights, event time; 0 where it has none."""
        self.histogram_2C2K = np.zeros((2, num_cohorts, 2, NUM_BINS), np.float32)
        """[model or reference, cohort, label, bin] -> weight."""
        self.sums_CM = np.zeros(
            (num_cohorts, ADAPTER + (num_fields if num_weights is None else num_weights)), np.float64
        )
        self.replicates_CR5 = np.zeros((num_cohorts, 1 + NUM_REPLICATES, 5), np.float64)
        """The figure itself, then its bootstrap replicates: UAUC's sum and weight, the benefit's sum and weight, the
        rank score's UAUC's sum; of a share of the users."""
        self.nth_NM = np.zeros((num_nth, NTH_COLUMNS), np.float64)
        self.features_GA = np.zeros((num_fields + NORMS, AGE + NUM_AGES), np.float64)
        """How often each feature was there, and how old it was at use."""
        self.arrivals: dict[int, np.ndarray] = {}
        """Day of a user's first impression -> sums by user cohort."""
        self.groups = Groups()
        """Of what was served; nothing in other series."""
        self.alarms: list[str] = []
        self.is_former = False
        """Whether a former version wrote it, which kept no rank score."""
        self._num_user_cohorts = num_user_cohorts

    @property
    def _shape(self) -> list[int]:
        num_cohorts, columns = self.sums_CM.shape
        num_fields = len(self.features_GA) - NORMS
        return [num_cohorts, num_fields, len(self.nth_NM), self._num_user_cohorts, columns - ADAPTER]

    @property
    def num_samples(self) -> float:
        """Impressions: each is in one user cohort, and those come first."""
        return float(self.sums_CM[: self._num_user_cohorts, COUNT].sum())

    def arrival(self, day: int) -> np.ndarray:
        """Sums of the users that came on a day (days since 1970), shape (user cohorts, NTH_COLUMNS)."""
        found = self.arrivals.get(day)
        if found is None:
            found = self.arrivals[day] = np.zeros((self._num_user_cohorts, NTH_COLUMNS))
        return found

    def add(self, other: "Bucket") -> Self:
        """Take a later bucket in."""
        self.start_ms = min(self.start_ms or other.start_ms, other.start_ms)
        self.end_ms = max(self.end_ms, other.end_ms)
        self.first_ts = min(self.first_ts or other.first_ts, other.first_ts or self.first_ts)
        self.last_ts, self.version = max(self.last_ts, other.last_ts), max(self.version, other.version)
        self.late_labels += other.late_labels
        self.unscored += other.unscored
        self.age_ms += other.age_ms
        for name in _ARRAYS:
            mine = getattr(self, name)
            mine += getattr(other, name)
        for day, sums in other.arrivals.items():
            self.arrival(day)[:] += sums
        for day in sorted(self.arrivals)[:-ARRIVAL_DAYS]:
            del self.arrivals[day]
        self.groups.add(other.groups)
        self.alarms += other.alarms
        return self

    def empty_like(self) -> "Bucket":
        """A bucket of the same shape without anything in it."""
        return Bucket(*self._shape)

    def encode(self) -> bytes:
        """For the history."""
        arrays = b"".join(getattr(self, name).astype(np.float32).tobytes() for name in _ARRAYS)
        stored = _Stored(
            self.start_ms,
            self.end_ms,
            self.first_ts,
            self.last_ts,
            self.version,
            self.late_labels,
            self.unscored,
            self.age_ms,
            self._shape,
            zlib.compress(arrays, 1),
            {day: sums.tolist() for day, sums in self.arrivals.items()},
            self.alarms,
            self.groups.encode(),
        )
        return msgspec.msgpack.encode(stored)

    @staticmethod
    def decode(data: bytes) -> "Bucket":
        """From the history."""
        stored = msgspec.msgpack.decode(data, type=_Stored)
        bucket = Bucket(*stored.shape)
        # A former version kept no rank score: its replicates are narrower, and its shape has one number less.
        is_former = bucket.is_former = len(stored.shape) == 4
        for name in _SCALARS:
            setattr(bucket, name, getattr(stored, name))
        flat = np.frombuffer(zlib.decompress(stored.arrays), np.float32)
        at = 0
        for name in _ARRAYS:
            array = getattr(bucket, name)
            if is_former and name == "replicates_CR5":
                array = array[..., :RANK_UAUC]
            array[...] = flat[at : at + array.size].reshape(array.shape)
            at += array.size
        bucket.groups = Groups.decode(stored.groups)
        bucket.arrivals = {day: np.array(sums) for day, sums in stored.arrivals.items()}
        return bucket


class Stretches:
    """The bucket that takes in what comes, and those that have ended.

    Args:
        new: makes an empty one.
        length_ms: wall clock.
    """

    def __init__(self, new: Callable[[], Bucket], length_ms: float) -> None:
        self._new, self._length_ms = new, length_ms
        self.open = new()
        self._ended: list[Bucket] = []

    def begin(self, now_ms: int) -> None:
        """Something comes."""
        self.open.start_ms = self.open.start_ms or now_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether the open one is to end."""
        return now_ms - self.open.start_ms >= self._length_ms

    def end(self, now_ms: int) -> None:
        """End the open one; it is dropped if there is nothing in it."""
        self.open.end_ms = now_ms
        if self.open.sums_CM.any() or self.open.unscored:
            self._ended.append(self.open)
        self.open = self._new()
        self.open.start_ms = self.open.end_ms = now_ms

    def take(self) -> list[Bucket]:
        """Those that have ended since the last call."""
        ended = self._ended
        if len(ended) > 1 and ended[-1].end_ms - ended[-1].start_ms < self._length_ms / 2:
            # Less than half a bucket is left over: its figures would be noise.
            fragment = ended.pop()
            ended[-1].add(fragment)
        self._ended = []
        return ended


def merge(buckets: Sequence[Bucket]) -> Bucket:
    """The sum of at least one bucket."""
    total = buckets[0].empty_like()
    for bucket in buckets:
        total.add(bucket)
    return total
