"""Meta-Embedding in a stream: a generator makes what a new item starts with of its content.

`learner/comparators/meta_embedding.py` says what is learned. Here the base model is the fast part as it stands at each
look at the pool, an id's embedding is its first-order weight and its factors, and its other features are the hashed
content that all starts are made of. Of items that have learned enough, those are taken that were shown often enough
lately; each is treated as if it were new: its counters are 0. The fast part's logit is linear in an item's values, so
it is asked once with none of them and once with each alone.

Legend: I items, K samples of each, S samples, X values of an item: weight, factors. M items of the pool.
"""

import numpy as np
import torch
from torch import Tensor

from learner.comparators.meta_embedding import FewSamples, MetaEmbedding
from learner.content.pool import Look, Made, weighted
from learner.content.starts import ContentStarts
from learner.fast.block import block_of
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.fast.inputs.signals import signals_of
from learner.learner import Learner
from learner.parts import ids_of, look_up
from learner.samples.columns import Samples, concatenate
from learner.samples.kind import SampleKind
from learner.tables.table import Table

_REMEMBERED = 40_000
"""Labelled samples, the newest."""
_SAMPLES = 10
"""K, of the cold start, and as many of the warm-up."""
_ITEMS = 64
"""I, of a step."""
_STEPS, _LR = 4, 3e-3
"""Of the generator at each look; of Adam."""
_SCALE, _STEP = 0.5, 0.1
"""What a generated value is at most; the step of gradient descent."""


class MetaStarts(ContentStarts):
    """Starts that a generator makes.

    Args:
        learner: whose fast part is asked, and whose items start so.
    """

    def __init__(self, learner: Learner) -> None:
        recipe = learner.recipe
        self._learner, self._plan = learner, plan_of(recipe.layout)
        super().__init__(recipe.content_start, recipe.fields, recipe.fast.factors, recipe.learner.seed)
        num_values = 1 + recipe.fast.factors
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.learner.seed)
            self.generator = MetaEmbedding(
                1, recipe.content_start.content_width, made=num_values, scale=_SCALE, step=_STEP
            )
        self._adam = torch.optim.Adam(self.generator.parameters(), lr=_LR)
        self._rng = np.random.default_rng(recipe.learner.seed)
        self._remembered: list[Samples] = []
        self.losses: list[float] = []
        """Of the steps so far."""

    def remember(self, samples: Samples) -> None:
        """Labelled samples, which the generator learns from at the next looks."""
        labelled = samples.take(samples.rows_B["kind"] <= SampleKind.POSITIVE)
        if len(labelled):
            self._remembered.append(labelled)
        while sum(map(len, self._remembered[1:])) >= _REMEMBERED:
            del self._remembered[0]

    def look(self, table: Table, num_samples: int) -> None:
        """As any starts', and the generator learns."""
        super().look(table, num_samples)
        for _ in range(_STEPS):
            self._teach()
        self._made = {}

    def _make(self, key: int, print_: int, content_H: np.ndarray, of_item: np.ndarray) -> Made | None:
        if not self.losses:
            return None
        if (key, print_) not in self._made:
            with torch.no_grad():
                values_X = self.generator(_features(content_H[None], self.pool.look))[0].numpy()
            self._made[key, print_] = Made(values_X, np.zeros(0, np.int64), np.zeros(0, np.float32))
        return self._made[key, print_]

    # The generator --------------------------------------------------------------------------------------------------

    def _teach(self) -> None:
        drawn = self._draw()
        if drawn is None:
            return
        samples, places_IK, keys_I = drawn
        content_IH = self._known.content_of(keys_I)
        labels_S = samples.rows_B["label"].astype(np.float32)
        columns = [torch.from_numpy(column_S[places_IK]) for column_S in (*self._linear(samples), labels_S)]
        halves = [_few(*(column[:, half] for column in columns)) for half in (slice(_SAMPLES), slice(_SAMPLES, None))]
        self._adam.zero_grad()
        loss = self.generator.meta_loss(_features(content_IH, self.pool.look), *halves)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self.losses.append(float(loss.detach()))

    def _draw(self) -> tuple[Samples, np.ndarray, np.ndarray] | None:
        """Samples, which of them are the 2 K of each item, and keys of these items; None if there are too few."""
        if not self._remembered:
            return None
        self._remembered = [concatenate(self._remembered)]
        (samples,) = self._remembered
        shuffled_S = self._rng.permutation(len(samples))
        keys_S = samples.item_keys[shuffled_S]
        order_S = np.argsort(keys_S, kind="stable")
        keys_U, first_U, size_U = np.unique(keys_S[order_S], return_index=True, return_counts=True)
        is_fit_U = (size_U >= 2 * _SAMPLES) & np.isin(keys_U, self.pool.look.keys_M)
        is_fit_U &= self.content.find(keys_U) > 0
        fit_I = self._rng.permutation(np.flatnonzero(is_fit_U))[:_ITEMS]
        if len(fit_I) < 2:
            return None
        fit_I.sort()
        chosen_IK = shuffled_S[order_S[first_U[fit_I, None] + np.arange(2 * _SAMPLES)]]
        is_chosen_S = np.zeros(len(samples), np.bool_)
        is_chosen_S[chosen_IK] = True
        return samples.take(is_chosen_S), (np.cumsum(is_chosen_S) - 1)[chosen_IK], keys_U[fit_I]

    def _linear(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        """Logits of samples whose items are new and say nothing, and what each value of an item adds: (S,), (S, X)."""
        learner = self._learner
        recipe, fast = learner.recipe, learner.fast
        assert fast is not None
        rows_B = samples.rows_B.copy()
        rows_B["item_counts"] = 0
        samples = Samples(samples.layout, rows_B, samples.keys_M, samples.texts, samples.entries_H)
        found = look_up(recipe, fast, samples, ids_of(occurrences_of(samples, self._plan)), False)
        num_values = 1 + recipe.fast.factors
        made_MX = np.concatenate([np.zeros((1, num_values)), np.eye(num_values)]).astype(np.float32)
        logits = np.empty((1 + num_values, len(samples)), np.float32)
        block = block_of(
            found.values,
            found.crosses,
            made_MX,
            found.histories,
            rows_B["label"],
            signals_of(samples, recipe.fast.gate_signals, recipe.positive),
            levels_B2=levels_of(samples, recipe.fast.user_levels, recipe.fast.item_levels),
        )
        rows_N, places_S = block.values.rows_N.copy(), self.places(block.values.kinds_N)
        block = block._replace(values=block.values._replace(rows_N=rows_N))
        for m in range(1 + num_values):
            rows_N[places_S] = -1 - m
            logits[m] = fast.predict(block).logit_B
        return logits[0], np.ascontiguousarray((logits[1:] - logits[0]).T)


class GivenMeta:
    """Has a learner's items start so; samples are what they were.

    Args:
        learner: which has a fast part, and starts of items alone.
    """

    def __init__(self, learner: Learner) -> None:
        assert learner.fast is not None
        self._starts = MetaStarts(learner)
        learner.fast.starts = (self._starts,)

    def __call__(self, samples: Samples) -> Samples:
        """What the learner is given."""
        self._starts.remember(samples)
        return samples


def _features(content_IH: np.ndarray, look: Look) -> Tensor:
    """What the generator is given of items: their content as one feature, (I, 1, H)."""
    return torch.from_numpy(weighted(content_IH, look.idf_H).astype(np.float32))[:, None]


def _few(rest_IK: Tensor, slopes_IKX: Tensor, labels_IK: Tensor) -> FewSamples:
    """Samples as the base model sees them, which is linear in an item's values."""
    return FewSamples(lambda id_IX: rest_IK + torch.einsum("ikx,ix->ik", slopes_IKX, id_IX), labels_IK)
