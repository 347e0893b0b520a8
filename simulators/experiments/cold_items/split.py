"""The split of the CVAR paper's code on MovieLens-1M (Zhao et al., "Improving item cold-start recommendation via
model-agnostic conditional variational autoencoder", SIGIR 2022), as Pan et al. (SIGIR 2019) made it before.

Items with more than 200 ratings are the base, on which a model is trained. Of each item with 60 to 200, the first 20
ratings by time are warm-up step a, the next 20 step b, the next 20 step c, and what is left is the test part. AUC of
the test part is measured before the first step (cold), and after each (warm-a, warm-b, warm-c).
"""

from typing import NamedTuple

import numpy as np

from simulators.experiments.ratings import Ratings

STEP = 20
NUM_STEPS = 3
BASE_ABOVE = 200
PHASES = ("cold", "warm-a", "warm-b", "warm-c")


class ColdSplit(NamedTuple):
    """Numbers of the samples of each part, in the order of time."""

    base_N: np.ndarray
    steps: tuple[np.ndarray, ...]
    test_N: np.ndarray


def cold_split(ratings: Ratings, *, step: int = STEP, base_above: int = BASE_ABOVE) -> ColdSplit:
    """Split a log.

    Args:
        ratings: the log.
        step: ratings of each item in a step.
        base_above: items with more ratings are the base; those with fewer than three steps are in no part.
    """
    counts_I = np.bincount(ratings.items_N, minlength=len(ratings.items.ids_E))
    of_item_N = counts_I[ratings.items_N]
    is_cold_N = (of_item_N <= base_above) & (of_item_N >= NUM_STEPS * step)
    # The log is in the order of time, and a stable sort leaves it so within each item.
    by_item = np.argsort(ratings.items_N, kind="stable")
    begins_I = np.cumsum(counts_I) - counts_I
    place_N = np.empty(len(ratings), np.int64)
    place_N[by_item] = np.arange(len(ratings)) - begins_I[ratings.items_N[by_item]]
    step_N = np.where(is_cold_N, place_N // step, -1)
    steps = tuple(np.flatnonzero(step_N == number) for number in range(NUM_STEPS))
    return ColdSplit(np.flatnonzero(of_item_N > base_above), steps, np.flatnonzero(step_N >= NUM_STEPS))
