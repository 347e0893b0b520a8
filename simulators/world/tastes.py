"""Latent vectors: a set share of their variance lies in attributes that everybody can see."""

from collections.abc import Mapping

import numpy as np


class Attributed:
    """Vectors of N slots: attribute centres, and a part of each slot's own.

    Args:
        attributes: name -> number of values.
        share: of the variance that lies in the attributes.
        size: N, D.
        rng: draws them.
    """

    def __init__(
        self, attributes: Mapping[str, int], share: float, size: tuple[int, int], rng: np.random.Generator
    ) -> None:
        self._share, self._rng = share if attributes else 0.0, rng
        self._sizes = tuple(attributes.values())
        self._centres = [_standard(rng.standard_normal((n, size[1]), np.float32)) for n in self._sizes]
        self.codes_NA = np.zeros((size[0], len(self._sizes)), np.int32)
        """Values of the attributes."""
        self.own_ND = np.zeros(size, np.float32)
        self.vectors_ND = np.zeros(size, np.float32)
        """Variance 1 in each dimension."""

    def renew(self, slots: np.ndarray) -> None:
        """Draw the attributes and the own part of slots anew."""
        for a, size in enumerate(self._sizes):
            self.codes_NA[slots, a] = self._rng.integers(size, size=len(slots))
        self.own_ND[slots] = self._rng.standard_normal((len(slots), self.own_ND.shape[1]), np.float32)
        self._compose(slots)

    def drift(self, share: float) -> None:
        """Draw a share of the variance of everybody's own part anew."""
        if share:
            noise_ND = self._rng.standard_normal(self.own_ND.shape, np.float32)
            self.own_ND = np.sqrt(np.float32(1 - share)) * self.own_ND + np.sqrt(np.float32(share)) * noise_ND
            self._compose(np.arange(len(self.own_ND)))

    def _compose(self, slots: np.ndarray) -> None:
        vectors_SD = np.sqrt(np.float32(1 - self._share)) * self.own_ND[slots]
        if self._share:
            scale = np.sqrt(np.float32(self._share / len(self._sizes)))
            for a, centres_CD in enumerate(self._centres):
                vectors_SD += scale * centres_CD[self.codes_NA[slots, a]]
        self.vectors_ND[slots] = vectors_SD


def _standard(centres_CD: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1 in each dimension, however few values there are; zeros of a single one."""
    if len(centres_CD) == 1:
        return np.zeros_like(centres_CD)
    centred_CD = centres_CD - centres_CD.mean(axis=0)
    standard_CD: np.ndarray = centred_CD / centred_CD.std(axis=0)
    return standard_CD
