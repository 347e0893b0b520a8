"""What was shown before, as it was then: what tokens of past samples are made of, without a recording for each model.

A recording's histories say which item, and when. What was known of that impression when it passed (the codes that the
model under test would have been asked for, its unquantised vectors, the values of its fields) is kept here, and put
into the entries of later samples. Of a user and an item the newest impression counts.

Legend: B samples, E entries of histories, P pairs of user and item, T slots, D length of a vector.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.config import BY_SAMPLE, HistorySettings
from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from learner.sif.frozen import FrozenTokenizer
from learner.sif.packed import VERSION_BITS
from learner.sif.tokenizer import SampleTokenizer
from learner.tables.compiled import compiled, compiled_maker
from learner.tables.hashing import cross_key
from learner.tables.index import Index

_SALT = np.uint64(0)
_OF_HISTORIES = "history_starts", "history_sizes"
_FIRST = 1 << 16


class Shown:
    """Numbers of pairs of user and item, from 1 on; 0: never shown."""

    def __init__(self) -> None:
        self._index = Index()

    def note(self, samples: Samples) -> np.ndarray:
        """Numbers of the pairs of samples."""
        return self._index.find_or_number(_pairs(samples.user_keys, samples.item_keys))

    def of_entries(self, samples: Samples) -> np.ndarray:
        """Numbers of the pairs of the entries that samples name, shape (E,)."""
        rows = samples.rows_B
        pairs_E = np.zeros(len(samples.entries_H), np.uint64)
        starts_BH, sizes_BH = (rows[name].astype(np.int64) for name in _OF_HISTORIES)
        items_E = np.ascontiguousarray(samples.entries_H["item"])
        _pairs_of_entries(starts_BH, sizes_BH, np.ascontiguousarray(samples.user_keys), items_E, pairs_E)
        return self._index.find(pairs_E)


class Growing:
    """One value per number, where numbers come in turn.

    Args:
        of: a value of 0, which unknown numbers have.
    """

    def __init__(self, of: np.ndarray) -> None:
        self.values_P = np.zeros((_FIRST, *of.shape), of.dtype)

    def put(self, numbers_N: np.ndarray, values_N: np.ndarray) -> None:
        """Note values."""
        while numbers_N.max(initial=0) >= len(self.values_P):
            self.values_P = np.concatenate([self.values_P, np.zeros_like(self.values_P)])
        self.values_P[numbers_N] = values_N


class Plain:
    """Samples as they were recorded.

    Args:
        learner: whose samples they become.
    """

    def __init__(self, learner: Learner) -> None:
        pass

    def __call__(self, samples: Samples) -> Samples:
        """What the learner is given."""
        return samples


class Coded(Plain):
    """Entries have the codes that the newest frozen version gave the sample as it was shown.

    Args:
        learner: whose tokenizer encodes.
    """

    def __init__(self, learner: Learner) -> None:
        recipe = learner.recipe
        self._layout, self._fields, self._sif = recipe.layout, recipe.fields, recipe.model.sif
        self._shown, self._words = Shown(), Growing(np.zeros((), np.uint64))
        self._tokenizer = tokenizer_of(learner)
        self._frozen: FrozenTokenizer | None = None

    def __call__(self, samples: Samples) -> Samples:
        """What the learner is given."""
        self._look()
        passing = samples.take(samples.rows_B["kind"] == SampleKind.SHOWN)
        if self._frozen is not None and len(passing):
            self._keep(self._shown.note(passing), self._frozen, passing)
        entries = samples.entries_H.copy()
        entries["category"] = self._words.values_P[self._shown.of_entries(samples)]
        return relaid(samples, self._layout, entries)

    def _keep(self, numbers_N: np.ndarray, frozen: FrozenTokenizer, passing: Samples) -> None:
        self._words.put(numbers_N, frozen.words(passing))

    def _look(self) -> None:
        version = int(self._tokenizer.version)
        if version and (self._frozen is None or self._frozen.version != version):
            self._frozen = FrozenTokenizer(self._tokenizer.frozen(), self._fields, self._sif)


class Dense(Coded):
    """Entries stand for the vectors that codes would have been of, as they were then, at 16 bits a number.

    Args:
        learner: whose tokenizer's maps make them.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        shape = self._tokenizer.num_slots, learner.recipe.model.dim
        self._vectors = Growing(np.zeros(shape, np.float16))
        # What a word stands for is no matter of codebooks here.
        self._tokenizer.decode = self._decode  # type: ignore[method-assign]

    def _keep(self, numbers_N: np.ndarray, frozen: FrozenTokenizer, passing: Samples) -> None:
        self._vectors.put(numbers_N, frozen.vectors(passing).astype(np.float16))
        self._words.put(numbers_N, (numbers_N.astype(np.uint64) << np.uint64(VERSION_BITS)) | np.uint64(1))

    def _decode(self, words_X: Tensor) -> tuple[Tensor, Tensor]:
        """As `SampleTokenizer.decode`."""
        numbers_X = (words_X >> VERSION_BITS).numpy()
        return torch.from_numpy(self._vectors.values_P[numbers_X].astype(np.float32)), words_X > 0


class Views(Plain):
    """One history, told once with each of some fields that its items had.

    Args:
        learner: whose histories say which fields.
    """

    def __init__(self, learner: Learner) -> None:
        recipe = learner.recipe
        self._layout, self._shown = recipe.layout, Shown()
        single = [recipe.fields[n].name for n in self._layout.single]
        self._columns = [single.index(history.by) for history in recipe.histories]
        self._values = Growing(np.zeros(len(self._columns), np.uint64))

    def __call__(self, samples: Samples) -> Samples:
        """What the learner is given."""
        passing = samples.take(samples.rows_B["kind"] == SampleKind.SHOWN)
        if len(passing):
            self._values.put(self._shown.note(passing), passing.rows_B["keys"][:, self._columns])
        values_EV = self._values.values_P[self._shown.of_entries(samples)]
        entries = np.concatenate([samples.entries_H] * len(self._columns))
        entries["category"] = values_EV.T.ravel()
        return relaid(samples, self._layout, entries)


def relaid(samples: Samples, layout: Layout, entries_H: np.ndarray) -> Samples:
    """The same samples in another layout, with other entries.

    Args:
        samples: B of them, of one history.
        layout: of the same fields and actions, with one or more histories.
        entries_H: as many as there were, for each history of the layout.
    """
    rows_B = np.zeros(len(samples), layout.dtype)
    for name in samples.rows_B.dtype.names or ():
        if name not in _OF_HISTORIES:
            rows_B[name] = samples.rows_B[name]
    starts_BH = samples.rows_B["history_starts"] + len(samples.entries_H) * np.arange(len(layout.histories))
    rows_B["history_starts"], rows_B["history_sizes"] = starts_BH, samples.rows_B["history_sizes"]
    return Samples(layout, rows_B, samples.keys_M, samples.texts, entries_H)


def coded(histories: Sequence[HistorySettings]) -> tuple[HistorySettings, ...]:
    """The same by codes of samples."""
    return tuple(msgspec.structs.replace(history, by=BY_SAMPLE) for history in histories)


def tokenizer_of(learner: Learner) -> SampleTokenizer:
    """Of a learner that has one."""
    assert learner.deep is not None
    tokenizer = learner.deep.dense.tokenizer
    assert tokenizer is not None
    return tokenizer


@compiled_maker
def _pairs(users_N: np.ndarray, items_N: np.ndarray) -> np.ndarray:
    pairs_N = np.empty(len(users_N), np.uint64)
    for n in range(len(users_N)):
        pairs_N[n] = cross_key(users_N[n], items_N[n], _SALT)
    return pairs_N


@compiled
def _pairs_of_entries(
    starts_BH: np.ndarray, sizes_BH: np.ndarray, users_B: np.ndarray, items_E: np.ndarray, pairs_E: np.ndarray
) -> None:
    """Samples of one user share entries, which are then written more than once, and alike."""
    num_samples, num_histories = starts_BH.shape
    for b in range(num_samples):
        for h in range(num_histories):
            for e in range(starts_BH[b, h], starts_BH[b, h] + sizes_BH[b, h]):
                pairs_E[e] = cross_key(users_B[b], items_E[e], _SALT)
