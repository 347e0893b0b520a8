"""What state made each part of a model count, on the average, by cohort of user and of item.

The claim (AdaF2M2, section 3.4): fields of ids gain weight as there comes to be evidence on them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learner.learned import Learned
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from simulators.experiments.stream.cohorts import NAMES, numbers

SUMS, COUNTS = "weight_sums_HUIK", "weight_counts_HUI"
_COHORTS = len(NAMES)
_LEAST = 200


class WeightSums:
    """Sums of weights by half of the stream, cohort of the user and cohort of the item, while a model learns.

    Args:
        names: of the K weights, as `learner.parts.weight_names` says.
        num_samples: of the whole stream.
    """

    def __init__(self, names: Sequence[str], num_samples: int) -> None:
        self._half = num_samples / 2
        self._num_seen = 0
        self._sums_HUIK = np.zeros((2, _COHORTS, _COHORTS, len(names)))
        self._counts_HUI = np.zeros((2, _COHORTS, _COHORTS))

    def __call__(self, samples: Samples, learned: Learned) -> None:
        """Take a block in; impressions count when their label comes to be learned."""
        half = int(self._num_seen >= self._half)
        self._num_seen += len(samples)
        if learned.weights_BK is None:
            return
        rows = samples.rows_B
        chosen_B = rows["kind"] <= SampleKind.POSITIVE
        of_user_B, of_item_B = (numbers(rows[name][chosen_B, 0]) for name in ("user_counts", "item_counts"))
        np.add.at(self._sums_HUIK[half], (of_user_B, of_item_B), learned.weights_BK[chosen_B])
        np.add.at(self._counts_HUI[half], (of_user_B, of_item_B), 1.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """To be kept with the result."""
        return {SUMS: self._sums_HUIK, COUNTS: self._counts_HUI}


def mean_by(kind: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean weights in the second half of a stream, when they have been learned; shape (cohorts, K).

    Args:
        kind: whose cohorts, "users" or "items".
        arrays: as of `WeightSums.arrays`.

    Returns:
        NaN where a cohort has fewer than 200 impressions.
    """
    other = {"users": 1, "items": 0}[kind]
    sums_CK, counts_C = arrays[SUMS][1].sum(axis=other), arrays[COUNTS][1].sum(axis=other)
    means_CK: np.ndarray = np.full_like(sums_CK, np.nan)
    known_C = counts_C >= _LEAST
    means_CK[known_C] = sums_CK[known_C] / counts_C[known_C, None]
    return means_CK
