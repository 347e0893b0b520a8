"""The pipeline without a broker: the same stages over an in-memory log, deterministic for a seed.

Ingest, state store (a real Redis), outbox, trainer and publisher are those of the run behind Kafka; only the log, the
clock and the batches are replaced. One round: ingest events in their order, as if each were read when it happened,
exchange item counts, train on all that came out; publish every so many samples.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import redis
from msgspec import Meta

from learner.learner import Learner
from learner.parts import limit_threads, weight_names
from simulators.encoding import LogEntry
from simulators.oracle import Record
from simulators.runs.quiet import with_quiet_told
from state_store.client import connect
from state_store.outbox import Outbox
from state_store.weights import Manifest, WeightStore
from stream.ingest.codes import Coding
from stream.ingest.rows import DeadLetter, LogRecord
from stream.ingest.stage import Ingest
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import COHORTS, SERVED
from stream.monitor.history.recorder import Recorder, Source, run_name
from stream.monitor.history.tasks import TaskMeters
from stream.monitor.served.meter import ServedMeter
from stream.monitor.twin.feed import TwinFeed
from stream.monitor.twin.twin import Twin
from stream.predictions.log import PredictionLog
from stream.process.store import open_store
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer

NOW_MS = 4_102_444_800_000
"""1 January 2100: what the wall clock says where there is none, so that no event lies in the future."""


class BacktestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What timers do in a live run is counted in events and samples here, so that a run can be repeated."""

    round_events: Annotated[int, Meta(gt=0)] = 1000
    """Events per round; item counts are exchanged at its end."""
    publish_samples: Annotated[int, Meta(gt=0)] = 20_000
    """Samples between two published versions, whose norms flow back into the features."""
    idle_ms: Annotated[int, Meta(ge=0)] = 10_000
    """Quiet for so long by the log's own clock, a topic partition goes on in time, as it does in a live run by
    `worker.idle_after_ms`; 0: never."""


class Backtest:
    """Runs a log through the stages.

    Args:
        settings: effective settings; `redis.url` is set and the Redis is empty.
        rounds: the backtest's own settings.
        folder: where the prediction log goes.
        now_ms: wall clock that the run pretends to have, for the bounds on event time.
    """

    def __init__(self, settings: Settings, rounds: BacktestSettings, folder: Path, now_ms: int) -> None:
        limit_threads(settings.recipe, settings.learner.num_threads)
        self._settings = settings
        self._rounds = rounds
        self._now_ms = now_ms
        client = connect(settings.redis)
        self.store = open_store(settings, client)
        self.dead: list[DeadLetter] = []
        self._ingest = Ingest(
            self.store,
            settings.fields,
            settings.actions,
            settings.events,
            self.dead.extend,
            histories=settings.histories,
            # Its calls are small and many: they go to Redis without waiting for each other.
            join="script",
        )
        self._coding = Coding(settings, client)
        self._ingest.code(self._coding.coded)
        self._partitions = range(settings.kafka.partitions)
        for partition in self._partitions:
            self._ingest.assign(partition)
        self._log = PredictionLog(
            folder / "predictions", keep=settings.publish.keep_prediction_files, tasks=settings.learned_tasks
        )
        self._log.rewind(0)
        learner = Learner(settings.recipe)
        outbox = Outbox(client, settings.redis.prefix, settings.kafka.partitions)
        self._outbox = outbox
        self._name = run_name(folder, now_ms)
        self._number = 0
        self._feed, self._twin = self._open_twin(client, folder)
        monitor = settings.monitor
        num_weights = len(weight_names(settings.recipe))
        meter = Meter(monitor, len(settings.fields), num_weights, feed=self._feed) if monitor.enabled else None
        prefix = settings.redis.prefix
        self._norms = NormWriter(self.store, settings.kafka.partitions)
        self._tasks = TaskMeters(settings) if monitor.enabled else None
        self.trainer = Trainer(
            learner, outbox, self._log, None, meter, self._tasks, positive=settings.main_actions, norms=self._norms
        )
        if self._tasks is not None:
            self._tasks.record(folder, keep=1, number=0)
        self._recorders: list[Recorder] = []
        if meter is not None:
            served = ServedMeter(monitor, len(settings.fields))
            self.trainer.hear(served)
            meters: list[tuple[str, Source]] = [(COHORTS, meter), (SERVED, served)]
            self._recorders = [Recorder(of, folder, keep=1, series=series, number=0) for series, of in meters]
        self._publisher = Publisher(WeightStore(client, prefix), self._norms, settings.publish)
        self._published_at = 0
        self._next_offset: dict[tuple[int, int], int] = {}
        self.records: list[Record] = []
        self.manifest: Manifest | None = None

    def _open_twin(self, client: redis.Redis, folder: Path) -> tuple[TwinFeed | None, Twin | None]:
        monitor, prefix = self._settings.monitor, self._settings.redis.prefix
        if not monitor.enabled or not monitor.twin_share:
            return None, None
        return TwinFeed(client, prefix, self._name, monitor.twin_share), Twin(self._settings, client, folder)

    def run(self, entries: Iterable[LogEntry]) -> None:
        """Ingest and learn from a whole log, then publish once more."""
        for chunk in _chunks(with_quiet_told(entries, self._rounds.idle_ms), self._rounds.round_events):
            self.ingest(chunk)
            while self._step(partial=not self._settings.recipe.has_deep):
                self._maybe_publish()
            self._outbox.trim(self.trainer.cursor)
        while self._step(partial=True):
            self._maybe_publish()
        self._publish()
        self._log.flush(1)
        for recorder in self._recorders:
            recorder.write(1, self.trainer.num_trained)
        if self._tasks is not None:
            self._tasks.write(1, self.trainer.num_trained)

    def _step(self, *, partial: bool) -> int:
        # A run that can be repeated has no clock: to the meter, a sample is a millisecond.
        return self.trainer.step(partial=partial, now_ms=self.trainer.num_trained)

    def ingest(self, entries: Iterable[LogEntry]) -> None:
        """Append entries to the log and apply them in order: as many at once as lie in one topic partition.

        Larger batches would let labels leave later than they do in life, by event time, and so would what is predicted
        when an impression passes look worse than it is.
        """
        self._coding.look()
        self._ingest.process_all(self._batches(entries), self._now_ms)
        self.store.roll_up_items(self._partitions, len(self._partitions))

    def _batches(self, entries: Iterable[LogEntry]) -> Iterator[tuple[str, int, list[LogRecord]]]:
        for (topic, partition), together in groupby(entries, key=lambda entry: (entry.topic, entry.partition)):
            records = []
            for entry in together:
                offset = self._next_offset.get((topic, partition), 0)
                self._next_offset[topic, partition] = offset + 1
                records.append(LogRecord(offset, entry.value, 0))
                self.records.append(Record(topic, partition, offset, entry.value))
            yield self._settings.topics[topic], partition, records

    def _maybe_publish(self) -> None:
        if self._norms.num_waiting >= self._settings.publish.norms_samples:
            self._norms.write(self.trainer.learner, self._publisher.version + 1)
        if self.trainer.num_trained - self._published_at >= self._rounds.publish_samples:
            self._publish()

    def _publish(self) -> None:
        trainer = self.trainer
        manifest = self._publisher.publish(trainer.learner, trainer.cursor, trainer.recent.compute(), self._now_ms)
        if manifest is not None:
            self.manifest = manifest
            trainer.version = manifest.version
        self._published_at = trainer.num_trained
        if self._feed is not None and self._twin is not None and trainer.meter is not None:
            self._number += 1
            # What the meter has not summed up yet it has not handed on either.
            trainer.meter.fold()
            self._feed.write(self._number)
            self._feed.durable(self._number)
            self._feed.send()
            self._twin.poll(self._name, trainer.num_trained)


def _chunks(entries: Iterable[LogEntry], size: int) -> Iterator[list[LogEntry]]:
    chunk: list[LogEntry] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
