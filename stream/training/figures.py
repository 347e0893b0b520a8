"""What the monitor gets of the learner, by checkpoint: buckets for the history, samples for the frozen twin."""

import time
from pathlib import Path

import redis

from learner.parts import weight_names
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import open_history
from stream.monitor.history.recorder import Recorder, read_buckets, run_name
from stream.monitor.history.tasks import TaskMeters
from stream.monitor.twin.feed import TwinFeed
from stream.prediction_log import read_predictions
from stream.settings import Settings

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
        self._recorder = Recorder(
            self.meter,
            folder,
            keep=settings.publish.keep_prediction_files,
            history=lambda behind: open_history(settings, client, name, behind, _now_ms()),
            number=number,
        )
        self.tasks = TaskMeters(settings)
        """Of the other tasks, where all of them are learned."""
        self.tasks.record(
            folder,
            keep=settings.publish.keep_prediction_files,
            number=number,
            history=lambda behind, series: open_history(settings, client, name, behind, _now_ms(), series),
        )
        predictions = read_predictions(folder / "predictions", newest=_REMEMBERED_FILES)
        self.meter.remember(predictions, read_buckets(folder, newest=_REMEMBERED_FILES))
        self.tasks.remember(predictions)

    def cut(self) -> None:
        """What was summed up so far belongs to the next checkpoint."""
        self._recorder.collect(_now_ms())
        self.tasks.collect(_now_ms())

    def write(self, number: int) -> None:
        """Write what belongs to checkpoint `number` to the run folder, before it is durable; in any thread."""
        self._recorder.write_collected(number)
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
        self._recorder.durable(number)
        self.tasks.durable(number)
        if self._feed is not None:
            self._feed.durable(number)

    def look_again(self) -> None:
        """Redis may have lost a part of the history."""
        self._recorder.look_again()
        self.tasks.look_again()

    def send_history(self) -> None:
        """Write to the history what waits for it."""
        self._recorder.send()
        self.tasks.send()

    def send_twin(self) -> None:
        """Hand the twin the samples that wait for it."""
        if self._feed is not None:
            self._feed.send()
