"""Worker's and learner's stages over one log, in one process, each of their parts timed.

They are the stages of the pipeline themselves; parts are told apart by timing the calls between them. What stands
around them is left out: consuming (`bench ingest`), checkpoints, reports.
"""

from collections.abc import Sequence
from pathlib import Path

import redis
from beside.batches import Batches, now_ms
from beside.clock import Clock

import learner.fast.predictor
import learner.learner
import stream.training.trainer
from learner.learner import Learner
from simulators.encoding import LogEntry
from state_store.outbox import Outbox
from state_store.weights import WeightStore
from stream.events import decode_event
from stream.ingest.stage import Ingest
from stream.predictions.log import PredictionLog
from stream.process.store import open_store
from stream.settings import Settings
from stream.training.figures import Figures
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer

_SCRIPTS = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_fcall")
DECODE, ROWS, CALL, SCRIPT, ROLL_UP, STAGE = (
    "decode JSON",
    "check, extract, pack columns",
    "the call, but for its script",
    "Redis: the script",
    "item counts exchanged",
    "the stage around them",
)


class Worker:
    """The ingest stage, as a worker feeds it that has a log to catch up with.

    Args:
        settings: with `redis.url`.
        client: to that Redis.
        clock: what its parts take.
    """

    def __init__(self, settings: Settings, client: redis.Redis, clock: Clock) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        self._store = open_store(settings, client)
        self._partitions = range(settings.kafka.partitions)
        self._ingest = Ingest(
            self._store,
            settings.fields,
            settings.actions,
            settings.events,
            lambda dead: None,
            num_partitions=settings.kafka.partitions,
            histories=settings.histories,
        )
        for partition in self._partitions:
            self._ingest.assign(partition)
        self._batches = Batches(settings)
        self._since_roll_up = 0
        self.num_events = self.num_calls = 0
        clock.watch(self._ingest, "_decode", ROWS)
        clock.watch(self._store, "apply", CALL)

    def take(self, entries: Sequence[LogEntry]) -> None:
        """Apply what was written, in calls of at most `worker.batch` records of one topic partition."""
        script_us = self._script_us()
        for topic, partition, records in self._batches.of(entries):
            with self._clock.stage(DECODE):
                for record in records:
                    decode_event(record.value)
            with self._clock.stage(STAGE):
                self._ingest.process(topic, partition, records, now_ms())
            self.num_calls += 1
        seconds = self._clock.seconds
        script_s = (self._script_us() - script_us) / 1e6
        seconds[SCRIPT] += script_s
        seconds[CALL] -= script_s
        self.num_events += len(entries)
        self._since_roll_up += len(entries)
        if self._since_roll_up >= self._settings.worker.roll_up_records:
            self._since_roll_up = 0
            with self._clock.stage(ROLL_UP):
                self._store.roll_up_items(self._partitions, len(self._partitions))

    def _script_us(self) -> int:
        told: dict[str, dict[str, int]] = self._client.info("commandstats")
        return sum(int(told[name]["usec"]) for name in _SCRIPTS if name in told)

    def settled(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds by part, of the wall clock and of CPU time here.

        Records are decoded once more beside the stage, so that it is known what that takes.
        """
        found = dict(self._clock.seconds), dict(self._clock.cpu)
        for of in found:
            of[ROWS] -= of[DECODE]
        return found


class Taught:
    """The training stage, with its prediction log, cohort figures, norms and published weights.

    Args:
        settings: with `redis.url`.
        client: to that Redis.
        clock: what its parts take.
        folder: run folder.
    """

    def __init__(self, settings: Settings, client: redis.Redis, clock: Clock, folder: Path) -> None:
        self._publish_settings, self._clock = settings.publish, clock
        prefix, partitions = settings.redis.prefix, settings.kafka.partitions
        self._outbox = Outbox(client, prefix, partitions)
        self._learner = Learner(settings.recipe)
        self._learner.warm_up()
        self._log = PredictionLog(folder / "predictions", keep=settings.publish.keep_prediction_files)
        self._log.rewind(0)
        self._norms = NormWriter(open_store(settings, client), partitions)
        self._publisher = Publisher(WeightStore(client, prefix), self._norms, settings.publish)
        figures = Figures(settings, client, folder, 0) if settings.monitor.enabled else None
        meter = figures.meter if figures is not None else None
        self._trainer = Trainer(
            self._learner, self._outbox, self._log, None, meter, positive=settings.main_actions, norms=self._norms
        )
        if figures is not None:
            figures.follow(self._trainer)
        self._published = self._flushed = 0
        self._watch()

    def _watch(self) -> None:
        watch, trainer, model = self._clock.watch, self._trainer, self._learner
        watch(self._outbox, "read", "outbox read")
        watch(stream.training.trainer, "read_entry", "decode of entries")
        watch(trainer._queue, "put", "queue")
        watch(trainer._queue, "pop", "queue")
        watch(learner.learner, "occurrences_of", "occurrences")
        watch(learner.learner, "targets_of", "targets")
        if model.fast is not None:
            watch(model.fast.table, "rows", "look-up: values")
            watch(learner.fast.predictor, "cross", "look-up: keys of crosses")
            watch(model.fast.cross_table, "rows", "look-up: crosses")
            watch(model.fast, "look_up", "look-up: around them")
            watch(learner.learner, "signals_of", "signals, levels")
            watch(learner.learner, "levels_of", "signals, levels")
            watch(model.fast, "learn", "compiled step")
        if model.deep is not None:
            for call in ("rows", "forward", "learn"):
                watch(model.deep, call, "deep part")
        watch(model, "learn", "learner: the rest")
        watch(stream.training.trainer, "log_columns", "prediction log: columns")
        watch(self._log, "flush", "prediction log: file")
        if trainer.meter is not None:
            watch(trainer.meter, "observe", "meter: observe")
            watch(trainer.meter, "fold", "meter: fold")
        watch(self._norms, "note", "norms")
        watch(self._norms, "write", "norms")
        watch(trainer, "step", "trainer: the rest")

    def learn(self) -> None:
        """Learn all that has been joined, and do in between what is due after so many samples."""
        trainer, settings = self._trainer, self._publish_settings
        while trainer.step(partial=True, now_ms=now_ms()):
            if self._norms.num_waiting >= settings.norms_samples:
                self._norms.write(self._learner, self._publisher.version + 1)
            if trainer.num_trained - self._published >= settings.interval_samples:
                self._publish()
        self._outbox.trim(trainer.cursor)

    def _publish(self) -> None:
        trainer, at = self._trainer, now_ms()
        with self._clock.stage("published weights"):
            made = self._publisher.publish(self._learner, trainer.cursor, trainer.recent.compute(), at)
        if made is not None:
            trainer.published(made.version, at)
        self._published = trainer.num_trained
        self._flushed += 1
        self._log.flush(self._flushed)
        self._log.durable()

    @property
    def num_samples(self) -> int:
        """Taken so far: learned from, or predicted only."""
        return self._trainer.num_trained
