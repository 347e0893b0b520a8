"""Figures by cohort of the tasks besides the main one, where all of them are learned: a meter and a series each."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from learner.learned import Learned
from learner.samples.columns import Samples
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import HistoryWriter, task_series
from stream.monitor.history.recorder import Recorder
from stream.predictions.columns import Logged
from stream.settings import Settings
from stream.task_columns import labels_of_task, learned_in


class TaskMeters:
    """Sums up predictions by task; there is nothing to sum up where only the main task is learned.

    What a task's figures have not: weights by state, and drift alarms. A task whose value is learned has none.

    Args:
        settings: effective settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._numbers = {
            task.name: n
            for n, task in enumerate(settings.labels)
            if not (task.is_main or task.value_unit) and task.name in settings.learned_tasks
        }
        monitor, num_fields = settings.monitor, len(settings.fields)
        self.meters = {name: Meter(monitor, num_fields, 0, watch=False) for name in self._numbers}
        self._recorders: list[Recorder] = []

    def observe(self, logged: Logged, samples: Samples, learned: Learned, version: int, now_ms: int) -> None:
        """Take a block in: of each task the samples that bring its label; arguments as of `Meter.observe`."""
        if learned.by_task is None or logged.by_task is None:
            return
        for name, n in self._numbers.items():
            chosen_B = learned.by_task.known_BT[:, n]
            if not chosen_B.any():
                continue
            of, ours = learned.by_task.take(chosen_B), learned.take(chosen_B)
            predictions_B, labels_B = of.predictions_BT[:, n], of.labels_BT[:, n]
            said = logged.take(chosen_B)
            assert said.by_task is not None
            self.meters[name].observe(
                msgspec.structs.replace(
                    said,
                    prediction=predictions_B,
                    rank_score=of.ranks_BT[:, n],
                    baseline=said.by_task.popularity_BT[:, n],
                    label=labels_B.astype(np.int8),
                ),
                samples.take(chosen_B),
                msgspec.structs.replace(
                    ours,
                    predictions_B=predictions_B,
                    ranks_B=of.ranks_BT[:, n],
                    labels_B=labels_B,
                    corrections_B=of.turned_BT[:, n],
                    weights_BK=None,
                ),
                version,
                now_ms,
            )

    def remember(self, predictions: pl.DataFrame) -> None:
        """Go on where earlier meters were: labels that turn find their negatives in the prediction log."""
        for name, n in self._numbers.items():
            if learned_in(predictions, name):
                self.meters[name].remember(labels_of_task(predictions, n, name))

    def published(self, version: int, now_ms: int) -> None:
        """Weights were published."""
        for meter in self.meters.values():
            meter.published(version, now_ms)

    # Where the figures go -------------------------------------------------------------------------------------------

    def record(
        self,
        folder: Path,
        *,
        keep: int,
        number: int,
        history: Callable[[int, str], HistoryWriter] | None = None,
    ) -> None:
        """Say where they are written; arguments as of `Recorder`, but that `history` is told the series, too."""
        self._recorders = [
            Recorder(
                meter,
                folder,
                keep=keep,
                history=None if history is None else _of_series(history, task_series(name)),
                series=task_series(name),
                number=number,
            )
            for name, meter in self.meters.items()
        ]

    def collect(self, now_ms: int) -> None:
        """As of `Recorder.collect`, for every task."""
        for recorder in self._recorders:
            recorder.collect(now_ms)

    def write_collected(self, number: int) -> None:
        """As of `Recorder.write_collected`, for every task."""
        for recorder in self._recorders:
            recorder.write_collected(number)

    def durable(self, number: int) -> None:
        """Checkpoint `number` is durable."""
        for recorder in self._recorders:
            recorder.durable(number)

    def send(self) -> None:
        """Write what waits to the history."""
        for recorder in self._recorders:
            recorder.send()

    def look_again(self) -> None:
        """Redis may have lost a part of the history."""
        for recorder in self._recorders:
            recorder.look_again()

    def write(self, number: int, now_ms: int) -> None:
        """Write what belongs to checkpoint `number`, which is durable."""
        for recorder in self._recorders:
            recorder.write(number, now_ms)


def _of_series(open_it: Callable[[int, str], HistoryWriter], series: str) -> Callable[[int], HistoryWriter]:
    return lambda behind: open_it(behind, series)
