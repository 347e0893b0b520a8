"""Feature freshness: how often a feature is missing, and how old it is when it is used.

A field's value is as old as its embedding: the event time since it was last learned from. A norm is as old as the
version of the weights that it came from, when the impression was written to the log (wall clock).
"""

from collections import OrderedDict

import numpy as np

from learner.learned import Learned
from learner.samples.columns import Samples
from stream.monitor.figures.bucket import AGE, NEW, NULL, NUM_AGES, SEEN, Bucket

_MAX_PUBLISHED = 50_000
"""Versions whose time is remembered: a day and more, at one every two seconds."""


def age_bins(ages_ms: np.ndarray) -> np.ndarray:
    """Bin of each age: 0 below a second, k from 2^(k-1) to 2^k seconds.

    >>> age_bins(np.array([0, 999, 1000, 3999, 10**12])).tolist()
    [0, 0, 1, 2, 23]
    """
    bins: np.ndarray = np.clip(np.frexp(ages_ms / 1000.0)[1], 0, NUM_AGES - 1)
    return bins


def age_quantile(counts_A: np.ndarray, q: float) -> float | None:
    """Quantile of a histogram of ages, seconds: the upper edge of its bin; None if there are none.

    >>> age_quantile(np.array([0, 2, 0, 2]), 0.5), age_quantile(np.array([0, 2, 0, 2]), 0.99)
    (2.0, 8.0)
    """
    total = float(counts_A.sum())
    return 2.0 ** int(np.searchsorted(np.cumsum(counts_A), q * total)) if total > 0 else None


class FeatureMeter:
    """Collects what micro-batches say of their features.

    Args:
        num_fields: F.
    """

    def __init__(self, num_fields: int) -> None:
        self._num_fields = num_fields
        self._published: OrderedDict[int, int] = OrderedDict()
        self._sizes: list[np.ndarray] = []
        self._ages: list[np.ndarray] = []
        self._norms: list[np.ndarray] = []

    def published(self, version: int, now_ms: int) -> None:
        """Weights were published, and with them norms, whose age at use can be told from now on."""
        self._published[version] = now_ms
        if len(self._published) > _MAX_PUBLISHED:
            self._published.popitem(last=False)

    def observe(self, samples: Samples, learned: Learned) -> None:
        """Take a micro-batch in.

        Args:
            samples: B of them.
            learned: says what fields they had.
        """
        if learned.sizes_BF is None or learned.ages_N is None:
            return
        self._sizes.append(learned.sizes_BF)
        self._ages.append(learned.ages_N)
        rows = samples.rows_B
        self._norms.append(
            np.stack(
                [rows[name].astype(np.int64) for name in ("produced_ms", "user_norm_version", "item_norm_version")]
            )
        )

    def fold(self, bucket: Bucket) -> None:
        """Sum up what was collected."""
        if not self._sizes:
            return
        sizes, ages, norms = np.concatenate(self._sizes), np.concatenate(self._ages), np.hstack(self._norms)
        self._sizes, self._ages, self._norms = [], [], []
        num_fields, (num_rows, width) = self._num_fields, bucket.features_GA.shape
        fields = np.repeat(np.tile(np.arange(num_fields), len(sizes)), sizes.ravel())
        columns = np.where(ages < 0, NEW, AGE + age_bins(ages))
        bucket.features_GA += np.bincount(fields * width + columns, minlength=num_rows * width).reshape(num_rows, width)
        bucket.features_GA[:num_fields, SEEN] += len(sizes)
        bucket.features_GA[:num_fields, NULL] += (sizes == 0).sum(0)
        produced_N, *versions_2N = norms
        for row_A, versions_N in zip(bucket.features_GA[num_fields:], versions_2N, strict=True):
            row_A[SEEN] += len(versions_N)
            row_A[NULL] += (versions_N == 0).sum()
            at_N = np.array([self._published.get(version, 0) for version in versions_N.tolist()])
            # Of a record that does not say when it was written no age is known.
            ages = np.maximum(produced_N - at_N, 0)[(at_N > 0) & (produced_N > 0)]
            row_A[AGE:] += np.bincount(age_bins(ages), minlength=NUM_AGES)
