"""What texts of items are compared by: hashed words, or what a sentence encoder says of them.

Legend: N items, H width, T words.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from xxhash import xxh3_64_intdigest

from learner.content.pool import idf_of
from learner.content.vectors import hashed
from learner.content.words import NO_WORDS
from learner.tables.ids import ids_of

HASHED = "hashed"
Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts -> vectors (N, H), float32."""


class Texts(Protocol):
    """Vectors of texts."""

    @property
    def name(self) -> str:
        """By which results say what they were made with."""

    @property
    def width(self) -> int:
        """H."""

    def vectors(self, words: Sequence[Sequence[str]]) -> np.ndarray:
        """Of each item's words in their order, (N, H), float32."""

    def weights(self, vectors_NH: np.ndarray) -> np.ndarray:
        """How much each dimension says, from the texts that there are; (H,), float32."""


class HashedTexts:
    """Counts of words by hash, weighted by how few items have them: TF-IDF.

    Args:
        width: H, a power of two.
    """

    name = HASHED

    def __init__(self, width: int) -> None:
        self.width = width

    def vectors(self, words: Sequence[Sequence[str]]) -> np.ndarray:
        """Hashed counts, each word as often as it is there."""
        offsets_B1 = np.concatenate([[0], np.cumsum([len(each) for each in words])])
        keys_T = np.array([xxh3_64_intdigest(word.encode()) for each in words for word in each], np.uint64)
        values = ids_of(offsets_B1, keys_T, np.zeros(len(keys_T)), np.ones(len(keys_T)))
        every, is_text = np.arange(len(words)), np.ones(1, np.uint8)
        found, _ = hashed(*values, every, is_text, self.width, NO_WORDS.keys_N, NO_WORDS.vectors_NW)
        vectors_NH: np.ndarray = found
        return vectors_NH

    def weights(self, vectors_NH: np.ndarray) -> np.ndarray:
        """Inverse document frequency."""
        return idf_of(len(vectors_NH), (vectors_NH != 0).sum(axis=0))


class EncodedTexts:
    """What a sentence encoder says, every dimension as much as the others.

    Args:
        name: of the encoder.
        encode: the encoder.
        width: H.
    """

    def __init__(self, name: str, encode: Encode, width: int) -> None:
        self.name, self._encode, self.width = name, encode, width
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, words: Sequence[Sequence[str]]) -> np.ndarray:
        """Each text as one sentence; one that was asked for before is not read again."""
        texts = [" ".join(each) for each in words]
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known |= dict(zip(new, self._encode(new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, self.width), np.float32)

    def weights(self, vectors_NH: np.ndarray) -> np.ndarray:
        """Ones."""
        return np.ones(vectors_NH.shape[1], np.float32)
