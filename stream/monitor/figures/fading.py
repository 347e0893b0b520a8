"""Fading figures: a cohort's past counts the less, the more samples it has had since (Gama et al. 2013).

The fading factor is given as a half-life in samples of the cohort itself, so a small cohort remembers longer than a
large one, and its figures rest on as much.
"""

import numpy as np

from stream.monitor.figures.bucket import COUNT, Bucket


class Fading:
    """A faded sum of buckets.

    Args:
        like: a bucket of the shape of those to come.
        half_life: samples after which a sample counts half.
        together: cohorts that fade by their samples together, as one; None: each by its own.
    """

    def __init__(self, like: Bucket, half_life: float, together: slice | None = None) -> None:
        self._half_life = half_life
        self._together = together
        self._sum = like.empty_like()
        self._weight_C = np.zeros(len(self._sum.sums_CM))
        self._square_C = np.zeros_like(self._weight_C)

    def update(self, bucket: Bucket) -> None:
        """Take the next bucket in."""
        count_C = bucket.sums_CM[:, COUNT]
        if self._together is not None:
            count_C = np.full_like(count_C, count_C[self._together].sum())
        factor_C = 0.5 ** (count_C / self._half_life)
        self._scale(self._sum, factor_C)
        self._sum.add(bucket)
        self._weight_C = self._weight_C * factor_C + count_C
        self._square_C = self._square_C * factor_C**2 + count_C

    def compute(self) -> Bucket:
        """The sum, scaled to the number of samples that it is worth, so that intervals come out right.

        That number is Kish's effective sample size, (sum of weights)^2 / (sum of squared weights).
        """
        found = self._sum.empty_like().add(self._sum)
        worth_C = np.divide(self._weight_C, self._square_C, out=np.zeros_like(self._weight_C), where=self._square_C > 0)
        self._scale(found, worth_C)
        return found

    def _scale(self, bucket: Bucket, factor_C: np.ndarray) -> None:
        bucket.sums_CM *= factor_C[:, None]
        bucket.histogram_2C2K *= factor_C[:, None, None].astype(np.float32)
        bucket.replicates_CR5 *= factor_C[:, None, None]
