"""Every model of several tasks over one recording, at every seed; what is there is not done again."""

import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from learner.learner import Learner
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.stream.recorded import Recording
from simulators.experiments.stream.variant import BLOCK, Variant
from simulators.experiments.tasks.truth import TaskTruth
from stream.command.doctor import versions

SCORES = "scores_NK"


class TasksResult(msgspec.Struct, frozen=True):
    """One model at one seed."""

    variant: str
    seed: int
    made: str
    """Recording and settings, as JSON."""
    auc: list[float]
    """By task."""
    seconds: float
    date: str
    versions: dict[str, str]


class TasksExperiment:
    """Models of several tasks on the samples of one log.

    Args:
        recording: the samples.
        truth: their labels.
        kept: where results are kept.
        variants: what is compared.
    """

    def __init__(
        self, recording: Recording, truth: TaskTruth, kept: Kept[TasksResult], variants: Sequence[Variant]
    ) -> None:
        self.recording, self.truth, self.kept, self.variants = recording, truth, kept, tuple(variants)
        self.tasks = [task.name for task in variants[0].recipe(recording.settings.recipe, 0).tasks]

    def run(
        self, chosen: Sequence[Variant], seeds: Sequence[int], told: Callable[[int], None]
    ) -> Iterator[TasksResult]:
        """Results that are not there yet, as they come; `told` hears how many samples more are learned."""
        for seed in seeds:
            for variant in chosen:
                if self.find(variant, seed) is None:
                    yield self._learned(variant, seed, told)

    def find(self, variant: Variant, seed: int) -> TasksResult | None:
        """A model's result; None if it is not there.

        Raises:
            KeptError: it is, and was made otherwise.
        """
        name = self._name(variant, seed)
        found = self.kept.find(name)
        if found is not None and found.made != self._made(variant, seed):
            path = self.kept.path(name)
            raise KeptError(f"{path} was made of other samples or settings: remove it, or give another --out")
        return found

    def scores(self, variant: Variant, seed: int) -> np.ndarray:
        """What it said of each impression and task before learning, shape (N, K)."""
        return self.kept.array(self._name(variant, seed), SCORES)

    def _learned(self, variant: Variant, seed: int, told: Callable[[int], None]) -> TasksResult:
        began = time.perf_counter()
        learner = Learner(variant.recipe(self.recording.settings.recipe, seed))
        learner.warm_up()
        said = []
        for samples in self.recording.blocks(BLOCK):
            by_task = learner.learn(samples).by_task
            assert by_task is not None
            said.append(by_task.predictions_BT)
            told(len(samples))
        scores_NK = np.concatenate(said)[self.truth.outcomes.base_N]
        del learner
        # Its tables are some GB of addresses, of which a process has only so many.
        gc.collect()
        result = TasksResult(
            variant.name,
            seed,
            self._made(variant, seed),
            [float(self.truth.auc(scores_NK[:, k], k)[0]) for k in range(len(self.tasks))],
            round(time.perf_counter() - began, 1),
            datetime.now(UTC).date().isoformat(),
            versions(),
        )
        self.kept.keep(self._name(variant, seed), result, {SCORES: scores_NK})
        return result

    def _made(self, variant: Variant, seed: int) -> str:
        recipe = variant.recipe(self.recording.settings.recipe, seed)
        settings = {name: getattr(recipe, name) for name in ("model", "fast", "crosses", "learner", "tasks")}
        return msgspec.json.encode({"recording": self.recording.header, "settings": settings}).decode()

    def _name(self, variant: Variant, seed: int) -> str:
        plain = re.sub("[^a-z0-9_]+", "-", variant.name.lower())
        return f"run-{self.recording.header.log}-tasks-{plain}-seed{seed}"
