"""A recording in which some items are not there before its middle, so that they are new when they come.

A share of the items is drawn; their samples before the middle are left out, and those behind it of impressions that
were shown before. The items' counters are lowered by what they were when the item first comes behind the middle; those
of users stay, as their other impressions took place. Items that by themselves first come behind the middle are new,
too.

Legend: T samples of the recording, C counters of an item, I items.
"""

from collections.abc import Iterator

import numpy as np

from learner.samples.columns import Samples
from simulators.experiments.stream.recorded import Recording

_BLOCK = 1 << 14
OLD = -1


class Withheld:
    """The samples that are left.

    Args:
        recording: of all.
        share: of the items that are drawn.
        seed: of the draw.
        num_samples: T; the recording is cut off behind them.
    """

    def __init__(self, recording: Recording, share: float, seed: int, num_samples: int) -> None:
        self.settings, self._recording, self._num_samples = recording.settings, recording, num_samples
        self._middle = num_samples // 2
        items_T, impressions_T, counts_TC = self._read()
        keys_I, first_I, of_T = np.unique(items_T, return_index=True, return_inverse=True)
        is_late_I = first_I >= self._middle
        drawn = np.random.default_rng(seed).random(len(keys_I)) < share
        self._is_drawn_I = drawn & ~is_late_I
        self._keys_I = keys_I
        is_early_T = np.arange(num_samples) < self._middle
        was_shown_T = np.isin(impressions_T, impressions_T[is_early_T])
        self.kept_T = ~(self._is_drawn_I[of_T] & was_shown_T)
        """Whether each is left."""
        lowered_T = self._is_drawn_I[of_T] & self.kept_T
        self._base_IC = np.full((len(keys_I), counts_TC.shape[1]), np.iinfo(np.uint32).max, np.uint32)
        np.minimum.at(self._base_IC, of_T[lowered_T], counts_TC[lowered_T])
        numbers_T = counts_TC[:, 0].astype(np.int64)
        numbers_T[lowered_T] -= self._base_IC[of_T[lowered_T], 0]
        is_new_T = self.kept_T & (self._is_drawn_I | is_late_I)[of_T]
        self.numbers_T = np.where(is_new_T, numbers_T, OLD)
        """Earlier impressions of each one's item, if that is new; else `OLD`."""
        self.is_drawn_T = self._is_drawn_I[of_T]

    def _read(self) -> tuple[np.ndarray, ...]:
        found: list[tuple[np.ndarray, ...]] = []
        for samples in self._whole(_BLOCK):
            rows = samples.rows_B
            found.append((samples.item_keys.copy(), rows["imp_key"].copy(), rows["item_counts"].copy()))
        items_T, impressions_T, counts_TC = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return items_T, impressions_T, counts_TC

    def _whole(self, size: int) -> Iterator[Samples]:
        at = 0
        for samples in self._recording.blocks(size):
            yield samples.slice(0, self._num_samples - at)
            at += len(samples)
            if at >= self._num_samples:
                return

    def blocks(self, size: int) -> Iterator[Samples]:
        """What is left, in blocks of at most `size`."""
        at = 0
        for samples in self._whole(size):
            kept_B = self.kept_T[at : at + len(samples)]
            at += len(samples)
            left = samples.take(kept_B)
            if len(left):
                self._lower(left)
                yield left

    def _lower(self, samples: Samples) -> None:
        of_B = np.searchsorted(self._keys_I, samples.item_keys)
        lowered_B = self._is_drawn_I[of_B]
        samples.rows_B["item_counts"][lowered_B] -= self._base_IC[of_B[lowered_B]]
