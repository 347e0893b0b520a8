"""Cold items from beginning to end: who is measured, what is kept, what is reported."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import torch

from learner.metrics import auc, log_loss, uauc
from learner.recipe import Recipe
from simulators.experiments.cold_items import product
from simulators.experiments.cold_items.comparators import Comparator, ComparatorSettings
from simulators.experiments.cold_items.split import PHASES, ColdSplit, cold_split
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.ratings import PAPER_FIELDS, Ratings
from stream.command.doctor import versions

OURS = "coldstream"


class Phase(msgspec.Struct, frozen=True):
    """Figures on the test part."""

    name: str
    auc: float
    uauc: float | None
    log_loss: float


class ColdResult(msgspec.Struct, frozen=True):
    """One method at one seed."""

    method: str
    seed: int
    settings: str
    """Of the method, as JSON."""
    phases: list[Phase]
    sizes: list[int]
    """Samples of the base, of the three steps, and of the test part."""
    seconds: float
    source: str
    date: str
    versions: dict[str, str]

    @property
    def name(self) -> str:
        """Under which it is kept."""
        return name_of(self.method, self.seed)


def name_of(method: str, seed: int) -> str:
    """Under which a result is kept."""
    return f"cold-{method}-seed{seed}"


class ColdItems:
    """The experiment on one log.

    Args:
        ratings: the log, with all fields of the recipe.
        recipe: of the product's learner.
        kept: where results are kept.
        device: of the comparators; the product's learner is compiled for the CPU.
        fields: that comparators are given, by name. The decade is for the product's crosses, and says no more than the
            year.
    """

    def __init__(
        self,
        ratings: Ratings,
        recipe: Recipe,
        kept: Kept[ColdResult],
        device: torch.device,
        fields: Sequence[str] = PAPER_FIELDS,
    ) -> None:
        self.ratings, self._recipe, self._kept, self._device, self._fields = ratings, recipe, kept, device, fields
        self.split: ColdSplit = cold_split(ratings)

    def run(
        self, methods: Sequence[ComparatorSettings], seeds: Sequence[int], told: Callable[[str], None]
    ) -> Iterator[ColdResult]:
        """Results of ours and of others, by seed; what is there is not done again.

        Args:
            methods: what is compared with.
            seeds: of weights and order; the split has nothing that is drawn.
            told: is told what is being done.
        """
        for seed in seeds:
            recipe = msgspec.structs.replace(
                self._recipe, learner=msgspec.structs.replace(self._recipe.learner, seed=seed)
            )
            said = msgspec.json.encode(
                {"model": recipe.model, "fast": recipe.fast, "crosses": recipe.crosses, "learner": recipe.learner}
            ).decode()
            ours = product.predicted(recipe, self.ratings, self.split)
            yield self._one(OURS, seed, said, ours, told)
            for method in methods:
                theirs = self._of_comparator(method, seed)
                yield self._one(method.name, seed, msgspec.json.encode(method).decode(), theirs, told)

    def _of_comparator(self, method: ComparatorSettings, seed: int) -> Iterator[np.ndarray]:
        # Begins when it is asked for, which it is not if the result is there.
        ratings = self.ratings.with_fields(self._fields)
        yield from Comparator(method, ratings, self.split, seed, self._device).phases()

    def _one(
        self, method: str, seed: int, said: str, phases: Iterator[np.ndarray], told: Callable[[str], None]
    ) -> ColdResult:
        name = name_of(method, seed)
        found = self._kept.find(name)
        if found is not None:
            if found.settings != said:
                raise KeptError(
                    f"{self._kept.path(name)} was made with other settings: remove it, or give another --out"
                )
            return found
        began, predictions, figures = time.perf_counter(), {}, []
        labels_N, users_N = self.ratings.labels_N[self.split.test_N], self.ratings.users_N[self.split.test_N]
        for phase in PHASES:
            told(f"{method}, seed {seed}, {phase}")
            predictions[phase] = next(phases)
            of_users = uauc(labels_N, predictions[phase], users_N)
            figures.append(
                Phase(
                    phase,
                    auc(labels_N, predictions[phase]),
                    of_users if np.isfinite(of_users) else None,
                    log_loss(labels_N, predictions[phase]),
                )
            )
        result = ColdResult(
            method,
            seed,
            said,
            figures,
            [len(part) for part in (self.split.base_N, *self.split.steps, self.split.test_N)],
            round(time.perf_counter() - began, 1),
            self.ratings.source,
            datetime.now(UTC).date().isoformat(),
            versions(),
        )
        self._kept.keep(name, result, predictions)
        return result
