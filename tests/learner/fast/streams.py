"""Streams of samples as keys, and fast parts that learn from them."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from learner.config import FieldSettings
from learner.fast.block import Predicted, block_of
from learner.fast.config import CrossSettings, FastRecipe
from learner.fast.learning.belief import MAY_TURN, PLAIN, SETTLED, TURNED
from learner.fast.model import FastPart
from learner.tables.ids import Ids

FIELDS = [
    FieldSettings("user_id", "user", "id"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("item_id", "item", "id", min_count=3),
    FieldSettings("genres", "item", "multi"),
]
SETTINGS = FastRecipe(
    factors=8,
    init_std=0.01,
    gate_batch=24,
    crosses=(CrossSettings(("user_id", "genres")), CrossSettings(("age", "item_id"))),
    max_rows=5_000,
    max_cross_rows=20_000,
    counted_ids=1_000,
    user_levels=(1, 2, 5, 10),
    item_levels=(3, 30),
)
NUM_SIGNALS = 2


class Stream(NamedTuple):
    """Samples in order."""

    ids: Ids
    ts_B: np.ndarray
    labels_B: np.ndarray
    learn_B: np.ndarray
    others: dict[str, np.ndarray]
    imp_keys_B: np.ndarray
    """Of the impressions: a sample that says what became of a negative has the negative's."""

    @property
    def user_keys(self) -> np.ndarray:
        """Of their users, whose id is each one's first value."""
        keys_B: np.ndarray = self.ids.keys_N[self.ids.offsets_B1[:-1]]
        return keys_B

    def part(self, begin: int, end: int) -> "Stream":
        offsets_B1 = self.ids.offsets_B1[begin : end + 1]
        inside = slice(int(offsets_B1[0]), int(offsets_B1[-1]))
        ids = Ids(offsets_B1 - offsets_B1[0], *(column[inside] for column in self.ids[1:]))
        of = slice(begin, end)
        others = {name: array[of] for name, array in self.others.items()}
        return Stream(ids, self.ts_B[of], self.labels_B[of], self.learn_B[of], others, self.imp_keys_B[of])


def make_stream(seed: int, count: int) -> Stream:
    """Few users and items, which come again; some samples are only predicted."""
    rng = np.random.default_rng(seed)
    offsets, keys, kinds, weights = [0], [], [], []
    for _ in range(count):
        genres = rng.choice(9, rng.integers(0, 4), replace=False) + 5_000
        sample = [int(rng.integers(1, 150)), 2_000 + int(rng.integers(6)), 3_000 + int(rng.zipf(1.4)) % 400]
        keys += [0 if rng.random() < 0.04 else key for key in sample] + genres.tolist()
        kinds += [0, 1, 2] + [3] * len(genres)
        weights += [1.0] * 3 + [1 / max(len(genres), 1)] * len(genres)
        offsets.append(len(keys))
    turn_B, imp_keys_B = make_turns(rng, count)
    labels_B = np.where(turn_B == PLAIN, rng.random(count) < 0.4, turn_B == TURNED)
    # Keys of the real kind fill 64 bits.
    keys_N = np.array(keys, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return Stream(
        Ids(np.array(offsets), keys_N, np.array(kinds, np.uint8), np.array(weights, np.float32)),
        np.arange(count) * 1_000,
        labels_B.astype(np.float32),
        (turn_B != PLAIN) | (rng.random(count) < 0.8),
        {
            "signals_BS": rng.normal(size=(count, NUM_SIGNALS)),
            "weight_B": rng.choice([1.0, 0.5], count),
            "shift_B": rng.choice([0.0, 0.7], count),
            "turn_B": turn_B,
            "levels_B2": np.stack([rng.integers(0, 5, count), rng.integers(0, 3, count)], axis=1),
        },
        imp_keys_B,
    )


def make_turns(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What samples are, and their impressions' keys: some negatives may turn, and later some have, or are settled."""
    turns, waiting = rng.choice([PLAIN, MAY_TURN, TURNED, SETTLED], count, p=[0.5, 0.25, 0.15, 0.1]), list[int]()
    keys = np.arange(1, count + 1)
    for n, turn in enumerate(turns):
        if turn == MAY_TURN:
            waiting.append(n + 1)
        elif turn != PLAIN and waiting and rng.random() < 0.8:
            # The others' negatives were learned before there were beliefs.
            keys[n] = waiting.pop(int(rng.integers(len(waiting))))
    return turns.astype(np.uint8), keys.astype(np.uint64)


def make_part(seed: int = 5, *, is_weighted: bool = False, **changes: object) -> FastPart:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    return FastPart(settings, FIELDS, NUM_SIGNALS, seed, is_weighted=is_weighted, settles=True)


def learn(part: FastPart, stream: Stream, cuts: Iterable[int] = ()) -> Predicted:
    """Learn a stream, cut before the given samples; what was said of each."""
    said = []
    for begin, end in pairwise([0, *cuts, len(stream.labels_B)]):
        some = stream.part(begin, end)
        found = part.look_up(some.ids, some.ts_B, learning=some.learn_B)
        turn_B = some.others["turn_B"]
        kept = {
            "belief_rows_B": part.believe(some.imp_keys_B, some.ts_B, turn_B),
            "covariance_rows_B": part.covariances_of(some.user_keys, some.ts_B, some.learn_B),
        }
        block = block_of(*found, some.labels_B, learn_B=some.learn_B, **kept, **some.others)
        said.append(part.learn(block))
        part.forget(some.imp_keys_B, turn_B)
    return Predicted(*(np.concatenate(column) for column in zip(*said, strict=True)))


def predict(part: FastPart, stream: Stream) -> Predicted:
    """The same, read only."""
    found = part.look_up(stream.ids, stream.ts_B, learning=False)
    return part.predict(block_of(*found, stream.labels_B, **stream.others))


def without_places(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A part's state but for where beliefs are kept, which depends on how a stream is cut: they are by their keys."""
    prefix = "beliefs."
    order = np.argsort(state[prefix + "keys"])
    beliefs = {prefix + name: state[prefix + name][order] for name in ("keys", "values.q", "last_ts")}
    return {name: array for name, array in state.items() if not name.startswith(prefix)} | beliefs


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
