"""The learner role: one process that trains, checkpoints and publishes on timers."""

import logging
import signal
import time
from pathlib import Path

import msgspec
import torch

from learner.checkpoint import read_latest, write_checkpoint
from learner.learner import Learner
from state_store.backoff import backoff_s
from state_store.client import TRANSIENT_ERRORS, connect
from state_store.keys import Keys
from state_store.outbox import Outbox
from state_store.resident import resident_bytes
from state_store.weights import WeightStore
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import open_history
from stream.monitor.history.recorder import Recorder, read_buckets, run_name
from stream.monitor.twin.feed import TwinFeed
from stream.prediction_log import PredictionLog, read_predictions
from stream.process.failpoints import failpoint
from stream.process.garbage import spare_garbage_collector
from stream.process.status import LearnerStatus
from stream.process.store import open_store
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer, TrainerState

log = logging.getLogger("coldstream.learner")

_IDLE_S = 0.01
_PARTIAL_AFTER_S = 0.2
_REPORT_EVERY_S = 0.25
_REMEMBERED_FILES = 200
"""Newest files of the prediction log, whose negatives a late label may still turn."""


class LearnerRole:
    """Owns the model: resumes, trains, checkpoints, publishes.

    Args:
        settings: effective settings; `redis.url` is set.
        folder: where checkpoints and the prediction log lie.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        torch.set_num_threads(settings.learner.num_threads)
        self._settings = settings
        self._checkpoints = folder / "checkpoints"
        self._client = connect(settings.redis)
        self._keys = Keys(settings.redis.prefix)
        self._outbox = Outbox(self._client, settings.redis.prefix, settings.kafka.partitions)
        self._norms = NormWriter(open_store(settings, self._client), settings.kafka.partitions)
        prefix = settings.redis.prefix
        self._publisher = Publisher(WeightStore(self._client, prefix), self._norms, settings.publish, prefix)
        self._num_published = 0
        self._log = PredictionLog(folder / "predictions", keep=settings.publish.keep_prediction_files)
        self._folder = folder
        self._number = 0
        self._published_ms = 0
        self._trained_at_checkpoint = -1
        self._missed_told = 0
        self._num_steps, self._step_time, self._step_max = 0, 0.0, 0.0
        self._stop = False
        self._recorder: Recorder | None = None
        self._feed: TwinFeed | None = None
        self.trainer = self._resume()

    def _resume(self) -> Trainer:
        settings = self._settings
        learner = Learner(settings.model, settings.learner, settings.fields, len(settings.actions.names))
        found = read_latest(self._checkpoints)
        state = None
        if found is not None:
            learner.restore(found.tensors, found.meta["learner"])
            state = msgspec.convert(found.meta["trainer"], TrainerState, strict=False)
            self._number = int(found.meta["number"])
            log.info("resumed from %s: %d samples", found.path, learner.num_samples)
        self._log.rewind(self._number)
        meter = self._open_meter() if settings.monitor.enabled else None
        return Trainer(
            learner, self._outbox, self._log, state, meter, positive=settings.main_actions, norms=self._norms
        )

    def _open_meter(self) -> Meter:
        settings = self._settings
        name = run_name(self._folder, time.time_ns() // 1_000_000)
        if settings.monitor.twin_share:
            self._feed = TwinFeed(self._client, settings.redis.prefix, name, settings.monitor.twin_share)
            self._feed.rewind(self._number)
            self._feed.durable(self._number)
        meter = Meter(settings.monitor, len(settings.fields), feed=self._feed)
        self._recorder = Recorder(
            meter,
            self._folder,
            keep=settings.publish.keep_prediction_files,
            history=lambda: open_history(settings, self._client, name, self._number, time.time_ns() // 1_000_000),
            number=self._number,
        )
        meter.remember(
            read_predictions(self._folder / "predictions", newest=_REMEMBERED_FILES),
            read_buckets(self._folder, newest=_REMEMBERED_FILES),
        )
        return meter

    # One round --------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Make everything learned so far durable, then trim the outbox behind it."""
        trainer = self.trainer
        if trainer.num_trained == self._trained_at_checkpoint:
            return
        number = self._number + 1
        # A Redis that knows less than a checkpoint is known by that to be an older one.
        self._outbox.report_learned(trainer.cursor)
        trainer.learner.evict_stale()
        tensors, meta = trainer.learner.state()
        # Before the log's flush: Redis may be away, and then all of this comes again under the same number.
        if self._recorder is not None:
            self._recorder.write(number, time.time_ns() // 1_000_000)
        if self._feed is not None:
            self._feed.write(number)
        self._log.flush(number)
        write_checkpoint(
            self._checkpoints,
            number,
            tensors,
            {"learner": meta, "trainer": msgspec.to_builtins(trainer.state()), "number": number},
            at=failpoint,
        )
        failpoint("checkpoint.before_trim")
        self._number, self._trained_at_checkpoint = number, trainer.num_trained
        self._outbox.trim(trainer.cursor)
        if self._feed is not None:
            self._feed.durable(number)

    def publish(self) -> None:
        """Publish the weights, if the gate lets them through."""
        failpoint("publish.before")
        trainer, now_ms = self.trainer, time.time_ns() // 1_000_000
        if trainer.rolled_back:
            log.warning("redis was restored from an older snapshot; what was learned behind it is skipped by id")
            self._publisher.start_over()
            if self._recorder is not None:
                self._recorder.open_history()
            trainer.rolled_back = False
        self._num_published = trainer.num_trained
        manifest = self._publisher.publish(trainer.learner, trainer.cursor, trainer.recent.compute(), now_ms)
        if manifest is None:
            log.warning("weights held back: %s", self._publisher.held_back)
            return
        self._published_ms = time.time_ns() // 1_000_000
        trainer.published(manifest.version, self._published_ms)
        failpoint("publish.after")

    def write_norms(self) -> None:
        """Write norms ahead of the weights that they belong to."""
        version = self._publisher.version + 1
        self._norms.write(self.trainer.learner, version)
        if self.trainer.meter is not None:
            self.trainer.meter.published(version, time.time_ns() // 1_000_000)

    def report(self) -> None:
        """Leave progress in Redis."""
        trainer, recent = self.trainer, self.trainer.recent.compute()
        self._outbox.report_learned(trainer.cursor)
        status = LearnerStatus(
            time_ms=time.time_ns() // 1_000_000,
            num_trained=trainer.num_trained,
            num_by_kind=trainer.num_by_kind,
            cursor={str(p): seq for p, seq in trainer.cursor.items()},
            version=self._publisher.version,
            published_ms=self._published_ms,
            held_back=self._publisher.held_back,
            **recent,
            freshness_p50_s=trainer.freshness.quantile(0.5),
            freshness_p99_s=trainer.freshness.quantile(0.99),
            rows=len(trainer.learner.table),
            num_missed=trainer.num_missed,
            resident_bytes=resident_bytes(),
            step_s=self._step_time / self._num_steps if self._num_steps else 0.0,
            step_max_s=self._step_max,
            num_at_norms=trainer.num_trained - self._norms.num_waiting,
        )
        self._client.set(self._keys.learner_status, msgspec.json.encode(status))
        self._num_steps, self._step_time, self._step_max = 0, 0.0, 0.0
        self._tell_alarms()
        if trainer.num_missed > self._missed_told:
            self._missed_told = trainer.num_missed
            log.warning(
                "%d samples under redis.prefix %r were learned and trimmed before this learner saw them; "
                "to go on where an earlier learner was, give its folder with --run",
                trainer.num_missed,
                self._settings.redis.prefix,
            )

    def _tell_alarms(self) -> None:
        meter = self.trainer.meter
        if meter is not None:
            for alarm in meter.alarms:
                log.warning("drift after %d samples: %s", self.trainer.num_trained, alarm)
            meter.alarms.clear()

    # The loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until SIGTERM or SIGINT; then checkpoint and publish once more."""
        spare_garbage_collector()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        settings = self._settings.publish
        now = time.monotonic()
        due = {self.publish: now + settings.interval_s, self.checkpoint: now + settings.checkpoint_s, self.report: now}
        every = {
            self.publish: settings.interval_s,
            self.checkpoint: settings.checkpoint_s,
            self.report: _REPORT_EVERY_S,
        }
        last_step, failures = now, 0
        while not self._stop:
            try:
                now = time.monotonic()
                if self.trainer.step(partial=now - last_step > _PARTIAL_AFTER_S, now_ms=time.time_ns() // 1_000_000):
                    last_step = now
                    self._num_steps += 1
                    step_time = time.monotonic() - now
                    self._step_time += step_time
                    self._step_max = max(self._step_max, step_time)
                    failpoint("learner.after_step")
                    if self._norms.num_waiting >= settings.norms_samples and not self._publisher.held_back:
                        self.write_norms()
                    if self.trainer.num_trained - self._num_published >= settings.interval_samples:
                        due[self.publish] = now
                else:
                    time.sleep(_IDLE_S)
                for task, at in due.items():
                    if now >= at:
                        task()
                        due[task] = time.monotonic() + every[task]
                failures = 0
            except TRANSIENT_ERRORS as exc:
                pause = backoff_s(failures)
                log.warning("redis does not answer (%s); trying again in %.1f s", exc, pause)
                failures += 1
                time.sleep(pause)
        try:
            self.checkpoint()
            self.publish()
            self.report()
        except TRANSIENT_ERRORS as exc:
            # What was learned since the last checkpoint is still in the outbox, and will be learned again from there.
            log.warning("redis does not answer (%s); stopping without a last checkpoint", exc)

    def _on_signal(self, *_: object) -> None:
        self._stop = True
