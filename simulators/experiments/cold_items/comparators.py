"""What cold items are compared with: a base model, and the ways to start its new ids that the field knows.

A model learns the base part; then, in each warm-up step, nothing but the rows of the cold items' ids, as the code of
the CVAR paper has it for those that it compares with; or, as the product's learner does, everything.

    plain            new ids start at random (N(0, .01^2))
    dropoutnet       ids are dropped at random while the base is learned (after Volkovs et al., NIPS 2017)
    meta-embedding   new ids start where a generator puts them (Pan et al., SIGIR 2019)
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from learner.adaf2m2.batch import Batch
from learner.comparators.meta_embedding import FewSamples, MetaEmbedding
from learner.config import ModelSettings
from simulators.experiments.cold_items.split import STEP, ColdSplit
from simulators.experiments.offline.fit import Fit
from simulators.experiments.offline.settings import HIDDEN, NUM_CROSS_LAYERS, HyperParameters
from simulators.experiments.ratings import Ratings

Start = Literal["plain", "dropoutnet", "meta-embedding"]
STARTS: tuple[Start, ...] = ("plain", "dropoutnet", "meta-embedding")
_DROPPED = 0.5
_META_IDS, _META_EPOCHS, _META_LR = 64, 5, 1e-3
"""Ids per step of the generator; how often each id is among them (with 40 samples, so that no sample is used more often
than while the base is learned)."""


class ComparatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them."""

    start: Start
    model: str = "deepfm"
    passes: Annotated[int, Meta(gt=0, le=1000)] = 1
    """Over the base."""
    rounds: Annotated[int, Meta(gt=0, le=1000)] = 1
    """Passes over each warm-up step."""
    learns: Literal["ids", "everything"] = "ids"
    """In warm-up: the rows of the cold items' ids, or the whole model."""
    hyper: HyperParameters = HyperParameters(lr=0.001, dim=16, batch=256)

    @property
    def name(self) -> str:
        """For people, and for the name of its file."""
        passes = f"passes{self.passes}-rounds{self.rounds}-{self.learns}"
        return f"{self.model}-{self.start}-{passes}-{self.hyper}"

    @property
    def title(self) -> str:
        """The same for a table."""
        rounds = "once" if self.rounds == 1 else f"{self.rounds} times"
        base = "" if self.passes == 1 else f"; base {self.passes} times"
        return f"{self.model}, {self.start}; each step {rounds}, {self.learns}{base}"


class Comparator:
    """One of them on a log.

    Args:
        settings: what learns.
        ratings: the log.
        split: its parts.
        seed: of weights and order.
        device: where.
    """

    def __init__(
        self, settings: ComparatorSettings, ratings: Ratings, split: ColdSplit, seed: int, device: torch.device
    ) -> None:
        self._settings, self._ratings, self._split, self._seed = settings, ratings, split, seed
        counts = [np.zeros((len(side.ids_E), 2), np.float32) for side in (ratings.users, ratings.items)]
        model = model_settings(settings)
        self.fit = Fit(model, settings.hyper, ratings, (counts[0], counts[1]), seed=seed, device=device)

    def phases(self) -> Iterator[np.ndarray]:
        """Probabilities of the test part in each phase."""
        settings, split = self._settings, self._split
        order = np.random.default_rng(self._seed)
        for _ in range(settings.passes):
            for samples_B in _batches(order.permutation(split.base_N), settings.hyper.batch):
                self.fit.step(samples_B)
        cold_items = np.unique(self._ratings.items_N[split.test_N])
        if settings.start == "meta-embedding":
            _Generated(self.fit, self._ratings, split.base_N, self._seed).put(cold_items)
        rows = self._ratings.items.id_rows[cold_items] if settings.learns == "ids" else None
        warm_up = _WarmUp(self.fit, rows, settings.hyper.lr)
        yield self.fit.predict(split.test_N)
        for step_N in split.steps:
            for _ in range(settings.rounds):
                for samples_B in _batches(order.permutation(step_N), settings.hyper.batch):
                    warm_up.step(samples_B)
            yield self.fit.predict(split.test_N)


def model_settings(settings: ComparatorSettings) -> ModelSettings:
    """Of a comparator's base model: without AdaF2M2."""
    given = {
        "fast": False,
        "deep": settings.model,
        "dim": settings.hyper.dim,
        "hidden": HIDDEN,
        "num_cross_layers": NUM_CROSS_LAYERS,
        "adapter": False,
        "num_masks": 0,
        "id_dropout": _DROPPED if settings.start == "dropoutnet" else 0.0,
    }
    return msgspec.convert(given, ModelSettings)


def _batches(samples_N: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(samples_N), size):
        yield samples_N[start : start + size]


class _WarmUp:
    """Steps of an Adam of its own, which leaves rows without gradients where they are.

    Args:
        fit: the model.
        rows: those that alone are changed; None: everything is.
        lr: learning rate.
    """

    def __init__(self, fit: Fit, rows: np.ndarray | None, lr: float) -> None:
        self._fit = fit
        rows_RW = fit.model.rows_RW
        self._optimiser = torch.optim.Adam(fit.model.parameters() if rows is None else [rows_RW], lr=lr)
        keep_R1 = torch.ones(len(rows_RW), 1)
        if rows is not None:
            keep_R1 *= 0.0
            keep_R1[torch.from_numpy(rows)] = 1.0
        self._keep_R1 = keep_R1.to(fit.device)

    def step(self, samples_B: np.ndarray) -> None:
        """One step."""
        self._fit.model.zero_grad()
        self._fit.loss(samples_B, noisy=False).backward()  # type: ignore[no-untyped-call]
        grad_RW = self._fit.model.rows_RW.grad
        assert grad_RW is not None
        grad_RW *= self._keep_R1
        self._optimiser.step()


class _Generated:
    """Embeddings of new items' ids from those of their other fields: a generator trained on the items of the base."""

    def __init__(self, fit: Fit, ratings: Ratings, base_N: np.ndarray, seed: int) -> None:
        self._fit, self._ratings = fit, ratings
        names = [field.name for field in ratings.fields]
        self._id_field = names.index("item_id")
        self._other_fields = [n for n in range(len(ratings.users.fields_F), len(names)) if n != self._id_field]
        torch.manual_seed(seed + 3)
        self._generator = MetaEmbedding(len(self._other_fields), fit.settings.dim).to(fit.device)
        by_item = base_N[np.argsort(ratings.items_N[base_N], kind="stable")]
        items, begins = np.unique(ratings.items_N[by_item], return_index=True)
        self._of_item = dict(zip(items.tolist(), np.split(by_item, begins[1:]), strict=True))
        self._train(np.random.default_rng(seed + 4))

    def put(self, items: np.ndarray) -> None:
        """Let ids of items start where the generator says."""
        with torch.no_grad():
            rows = torch.from_numpy(self._ratings.items.id_rows[items]).to(self._fit.device)
            any_sample = {int(item): n for n, item in enumerate(self._ratings.items_N)}
            samples = np.array([any_sample[int(item)] for item in items])
            self._fit.model.rows_RW[rows, :-1] = self._generator(self._features(samples))

    def _features(self, samples_I: np.ndarray) -> Tensor:
        emb_BFD, _ = self._fit.model.pooled(self._fit.feed.batch(samples_I, self._fit.model.rows_RW))
        return emb_BFD[:, self._other_fields].detach()

    def _train(self, rng: np.random.Generator) -> None:
        self._fit.model.requires_grad_(False)
        optimiser = torch.optim.Adam(self._generator.parameters(), lr=_META_LR)
        items = np.array([item for item, samples in self._of_item.items() if len(samples) >= 2 * STEP])
        for _ in range(_META_EPOCHS):
            for some in _batches(rng.permutation(items), _META_IDS):
                drawn = np.stack([rng.choice(self._of_item[int(item)], 2 * STEP, replace=False) for item in some])
                cold, warm = self._few(drawn[:, :STEP]), self._few(drawn[:, STEP:])
                optimiser.zero_grad()
                loss = self._generator.meta_loss(self._features(drawn[:, 0]), cold, warm)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self._fit.model.requires_grad_(True)

    def _few(self, samples_IK: np.ndarray) -> FewSamples:
        num_ids, num_samples = samples_IK.shape
        flat = samples_IK.ravel()
        batch: Batch = self._fit.feed.batch(flat, self._fit.model.rows_RW)
        emb_BFD, first_BF = self._fit.model.pooled(batch)
        # A new id's first-order weight is 0.
        first_BF = first_BF.clone()
        first_BF[:, self._id_field] = 0.0

        def logits(id_ID: Tensor) -> Tensor:
            placed_BFD = emb_BFD.clone()
            placed_BFD[:, self._id_field] = id_ID.repeat_interleave(num_samples, 0)
            return self._fit.model.logits(placed_BFD, first_BF).view(num_ids, num_samples)

        return FewSamples(logits, self._fit.feed.labels(flat).view(num_ids, num_samples))
