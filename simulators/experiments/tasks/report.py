"""Models of several tasks beside one model per task."""

from collections.abc import Sequence

import numpy as np

from simulators.experiments.reporting.markdown import figure, table, with_interval
from simulators.experiments.statistics.bootstrap import Interval, interval
from simulators.experiments.stream.variant import Variant
from simulators.experiments.tasks.run import TasksExperiment
from simulators.experiments.tasks.variants import FAST, alone


class TasksReport:
    """Compares what was kept, at the seeds that both of two models have.

    Args:
        experiment: whose it is.
        seeds: that are asked for.
    """

    def __init__(self, experiment: TasksExperiment, seeds: Sequence[int]) -> None:
        self._experiment = experiment
        self._variants = {variant.name: variant for variant in experiment.variants}
        self._seeds = tuple(seeds)
        self._known: dict[tuple[str, int, int, bool], np.ndarray] = {}

    def text(self, command: str) -> str:
        """The report, in Markdown."""
        experiment, there = self._experiment, [name for name in self._variants if self._at(name)]
        num_impressions = len(experiment.truth.outcomes.base_N)
        shares = experiment.truth.outcomes.labels_NK.mean(axis=0)
        said = ", ".join(f"{name} {share:.2%}" for name, share in zip(experiment.tasks, shares, strict=True))
        lines = [
            f"#### {experiment.recording.header.log}, several tasks: {num_impressions:,} impressions, one pass",
            f"`{command}`",
            f"Share of positives: {said}. Means over the seeds {', '.join(map(str, self._seeds))}, as far as a model "
            "has them. In brackets, behind the difference to the deep part that learns the task alone (fast parts: to "
            "these alone), the 95 % interval of a paired bootstrap over users; bold where it excludes zero.",
        ]
        for what, by_user in (("AUC", False), ("UAUC", True)):
            head = [f"{what}, progressive", "seeds", *experiment.tasks]
            rows = [[name, str(len(self._at(name))), *self._cells(name, by_user)] for name in there]
            lines.append(table(head, rows))
        return "\n\n".join(lines)

    def figures(self) -> dict[str, dict[str, dict[str, object]]]:
        """Model -> task -> AUC, UAUC, difference of the AUC to one model per task."""
        found: dict[str, dict[str, dict[str, object]]] = {}
        for name in self._variants:
            for k, task in enumerate(self._experiment.tasks):
                if not self._at(name) or self._is_of_another(name, task):
                    continue
                less = self._difference(name, k, by_user=False)
                found.setdefault(name, {})[task] = {
                    "auc": self._mean(name, k, by_user=False),
                    "uauc": self._mean(name, k, by_user=True),
                    "difference": None if less is None else [less.value, less.low, less.high],
                }
        return found

    def _at(self, name: str) -> list[int]:
        variant: Variant = self._variants[name]
        return [seed for seed in self._seeds if self._experiment.find(variant, seed) is not None]

    def _is_of_another(self, name: str, task: str) -> bool:
        return name in {alone(other) for other in self._experiment.tasks if other != task}

    def _cells(self, name: str, by_user: bool) -> list[str]:
        cells = []
        for k, task in enumerate(self._experiment.tasks):
            if self._is_of_another(name, task):
                cells.append("")
                continue
            less = self._difference(name, k, by_user=by_user)
            value = figure(self._mean(name, k, by_user=by_user))
            cells.append(value if less is None else f"{value}; {with_interval(less)}")
        return cells

    def _mean(self, name: str, k: int, *, by_user: bool) -> float:
        return float(np.mean([self._replicates(name, seed, k, by_user)[0] for seed in self._at(name)]))

    def _difference(self, name: str, k: int, *, by_user: bool) -> Interval | None:
        own = alone(self._experiment.tasks[k])
        against = FAST if name.startswith(f"{FAST} ") else own
        seeds = [seed for seed in self._at(name) if seed in self._at(against)]
        if name in {FAST, own} or not seeds:
            return None
        pairs = [[self._replicates(of, seed, k, by_user) for of in (name, against)] for seed in seeds]
        return interval(np.mean([a - b for a, b in pairs], axis=0))

    def _replicates(self, name: str, seed: int, k: int, by_user: bool) -> np.ndarray:
        key = name, seed, k, by_user
        if key not in self._known:
            scores_N = self._experiment.scores(self._variants[name], seed)[:, k]
            of = self._experiment.truth.user_auc if by_user else self._experiment.truth.auc
            self._known[key] = of(scores_N, k)
        return self._known[key]
