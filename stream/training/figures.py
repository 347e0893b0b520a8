"""What the monitor gets of the learner, by checkpoint: buckets for the history, samples for the frozen twin."""

import time
from functools import partial
from pathlib import Path

import redis

from learner.parts import weight_names
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import COHORTS, SERVED, HistoryWriter, open_history
from stream.monitor.history.recorder import Recorder, Source, read_buckets, run_name
from stream.monitor.history.tasks import TaskMeters
from stream.monitor.served.meter import ServedMeter
from stream.monitor.twin.feed import TwinFeed
from stream.predictions.log import read_predictions
from stream.settings import Settings
from stream.training.trainer import Trainer

_REMEMBERED_FILES = 200
"""Newest files of the prediction log, whose negatives a late label may still turn."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Figures:
    """The learner's meter, and what becomes of its figures. Redis is written to by `send_` methods and `offer` only.

    Args:
        settings: effective settings.
        client: Redis.
        folder: run folder.
        number: the checkpoint that the learner resumed from.
    """

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path, number: int) -> None:
        name = run_name(folder, _now_ms())
        share = settings.monitor.twin_share
        kept = folder / "monitor" / "feed"
        self._feed = TwinFeed(client, settings.redis.prefix, name, share, number, kept) if share else None
        num_weights = len(weight_names(settings.recipe))
        self.meter = Meter(settings.monitor, len(settings.fields), num_weights, feed=self._feed)
        self._served = ServedMeter(settings.monitor, len(settings.fields))
        meters: list[tuple[str, Source]] = [(COHORTS, self.meter), (SERVED, self._served)]
        keep = settings.publish.keep_prediction_files

        def open_series(behind: int, series: str) -> HistoryWriter:
            return open_history(settings, client, name, behind, _now_ms(), series)

        self._recorders = [
            Recorder(
                meter, folder, keep=keep, history=partial(open_series, series=series), series=series, number=number
            )
            for series, meter in meters
        ]
        self.tasks = TaskMeters(settings)
        """Of the other tasks, where all of them are learned."""
        self.tasks.record(folder, keep=keep, number=number, history=open_series)
        self._folder = folder

    def follow(self, trainer: Trainer) -> None:
        """Be told of what a trainer learns, and go on where earlier figures were."""
        predictions = read_predictions(self._folder / "predictions", newest=_REMEMBERED_FILES)
        self.meter.remember(predictions, read_buckets(self._folder, newest=_REMEMBERED_FILES))
        self.tasks.remember(predictions)
        trainer.outcomes.remember(predictions)
        trainer.hear(self._served)

    def take_alarms(self) -> list[str]:
        """Alarms since the last call."""
        found = [*self.meter.alarms, *self._served.alarms]
        self.meter.alarms.clear()
        self._served.alarms.clear()
        return found

    def cut(self) -> None:
        """What was summed up so far belongs to the next checkpoint."""
        for recorder in self._recorders:
            recorder.collect(_now_ms())
        self.tasks.collect(_now_ms())

    def write(self, number: int) -> None:
        """Write what belongs to checkpoint `number` to the run folder, before it is durable; in any thread."""
        for recorder in self._recorders:
            recorder.write_collected(number)
        self.tasks.write_collected(number)

    def offer(self, number: int) -> None:
        """Write the twin's samples of checkpoint `number` as it is taken; what Redis refuses goes later."""
        if self._feed is not None:
            self._feed.write(number)

    def keep(self, number: int) -> None:
        """Write what Redis did not take of checkpoint `number` to the run folder, as it is taken."""
        if self._feed is not None:
            self._feed.keep(number)

    def durable(self, number: int) -> None:
        """Checkpoint `number` is durable."""
        for recorder in self._recorders:
            recorder.durable(number)
        self.tasks.durable(number)
        if self._feed is not None:
            self._feed.durable(number)

    def look_again(self) -> None:
        """Redis may have lost a part of the history."""
        for recorder in self._recorders:
            recorder.look_again()
        self.tasks.look_again()

    def send_history(self) -> None:
        """Write to the history what waits for it."""
        for recorder in self._recorders:
            recorder.send()
        self.tasks.send()

    def send_twin(self) -> None:
        """Hand the twin the samples that wait for it."""
        if self._feed is not None:
            self._feed.send()
