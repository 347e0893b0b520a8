"""The learner role: one process that trains, checkpoints and publishes on timers."""

import logging
import time
from pathlib import Path

import msgspec
import redis

from learner.checkpoints.folder import remove_behind
from learner.parts import limit_threads
from state_store.client import script
from state_store.keys import Keys
from state_store.outbox import Outbox
from state_store.weights import WeightStore
from stream.arms.settings import own_versions
from stream.predictions.log import PredictionLog
from stream.process.failpoints import failpoint
from stream.process.garbage import spare_garbage_collector
from stream.process.status import StatusFile
from stream.process.stopping import Stopping
from stream.process.store import connect_when_ready, open_store
from stream.process.weather import Weather
from stream.settings import Settings
from stream.training.checkpoints.resume import ALONE, Learners, resume
from stream.training.checkpoints.taking import Checkpoints
from stream.training.checkpoints.way_back import WayBack
from stream.training.figures import Figures
from stream.training.lease import folder_id
from stream.training.norms import NormWriter
from stream.training.ownership import Ownership
from stream.training.progress import Progress
from stream.training.publisher import Publisher
from stream.training.served.canary import CanaryStep, canary_of
from stream.training.steps import Steps
from stream.training.trainer import OtherFieldsError, Trainer

log = logging.getLogger("coldstream.learner")

_IDLE_S = 0.01
_REPORT_EVERY_S = 0.25
_LATER_EVERY_S = 1.0
"""How often it is looked for what Redis has not taken yet."""


class LearnerRole:
    """Owns the model: resumes, trains, checkpoints, publishes.

    Args:
        settings: effective settings; `redis.url` is set.
        folder: where checkpoints and the prediction log lie.
        learners: how its learner is made.
    """

    trainer: Trainer
    _client: redis.Redis
    _outbox: Outbox
    _norms: NormWriter
    _publisher: Publisher
    _checkpoints: Checkpoints
    _way_back: WayBack
    _figures: Figures | None
    _canary: CanaryStep | None

    def __init__(self, settings: Settings, folder: Path, learners: Learners = ALONE) -> None:
        limit_threads(settings.recipe, settings.learner.num_threads)
        self._settings, self._folder, self._learners = settings, folder, learners
        self._checkpoints_folder = folder / "checkpoints"
        self._keys = Keys(settings.redis.prefix)
        self._weather = Weather(log)
        self._steps = Steps(self._weather, folder)
        self._status_file = StatusFile(folder, self._weather)
        self._stopping = Stopping(log)
        self._ownership = Ownership(settings, folder, self._weather, self._steps, self._asked_to_stop)
        keep = settings.publish.keep_prediction_files
        self._log = PredictionLog(folder / "predictions", keep=keep, tasks=settings.learned_tasks)
        self._num_published, self._last_step = 0, 0.0
        self._progress = Progress(settings.redis.prefix)

    def _asked_to_stop(self) -> bool:
        """For whoever waits; meanwhile the run folder, once it is ours, says what for."""
        if self._ownership.has_folder:
            self._status_file.keep()
        return self._stopping.asked

    def _begin(self) -> bool:
        """Become the learner, and resume; False if asked to stop before."""
        if not self._ownership.take_folder():
            return False
        client = connect_when_ready(self._settings.redis, self._weather, self._asked_to_stop)
        if client is None or not self._ownership.take_pipeline(client):
            return False
        self._client = client
        self._replace = script(client, "replace")
        return self._steps.until("open", self._open, self._asked_to_stop)

    def _open(self) -> None:
        settings, prefix = self._settings, self._settings.redis.prefix
        self._outbox = Outbox(self._client, prefix, settings.kafka.partitions)
        owner = self._outbox.own(time.time_ns() // 1_000_000)
        self._norms = NormWriter(open_store(settings, self._client), settings.kafka.partitions, owner)
        weights = WeightStore(self._client, prefix, store=settings.publish.store, at=failpoint)
        folder = folder_id(self._folder)
        self._publisher = Publisher(weights, self._norms, settings.publish, folder, own_versions(settings.serving.arms))
        self._way_back = WayBack(weights.rollouts, self._checkpoints_folder, folder)
        self.trainer = self._resume()
        self._schedule()

    def _resume(self) -> Trainer:
        settings = self._settings
        resumed = resume(settings.recipe, self._checkpoints_folder, self._learners)
        learner, state, number, _ = resumed
        self._log.rewind(number)
        log.info("compiled code is ready after %.1f s", learner.warm_up())
        self._figures = Figures(settings, self._client, self._folder, number) if settings.monitor.enabled else None
        self._checkpoints = Checkpoints(
            self._checkpoints_folder, self._log, self._figures, resumed, lambda: self._publisher.kept_checkpoints
        )
        meters = (None, None) if self._figures is None else (self._figures.meter, self._figures.tasks)
        trainer = Trainer(
            learner, self._outbox, self._log, state, *meters, positive=settings.main_actions, norms=self._norms
        )
        self._canary = canary_of(settings, self._client, trainer, state, self._publisher.version)
        if self._figures is not None:
            self._figures.follow(trainer)
        return trainer

    # Steps ------------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        """Learn from one block, if there is one."""
        trainer, now = self.trainer, time.monotonic()
        is_over = now - self._last_step > self._settings.learner.wait_s
        try:
            size = trainer.step(partial=is_over, now_ms=time.time_ns() // 1_000_000)
        except OtherFieldsError:
            # Of what was not learned nothing is to be published.
            (self._end if trainer.num_trained > trainer.num_at_start else self._ownership.release)()
            raise
        if not size:
            time.sleep(_IDLE_S)
            return
        self._last_step = now
        self._progress.stepped(time.monotonic() - now)
        failpoint("learner.after_step")

    def _heed_rollback(self) -> None:
        """Redis is older than the training: blobs of the weights and a part of the history may be gone."""
        log.warning("redis was restored from an older snapshot; what was learned behind it is skipped by id")
        self._publisher.start_over()
        self._checkpoints.heed_rollback(self.trainer)
        if self._figures is not None:
            self._figures.look_again()
        self.trainer.rolled_back = False

    def checkpoint(self) -> None:
        """Begin to make everything learned so far durable, unless that is under way."""
        trainer, figures = self.trainer, self._figures
        if self._checkpoints.is_busy or trainer.num_trained == self._checkpoints.num_taken:
            return
        # A Redis that knows less than a checkpoint is known by that to be an older one.
        self._outbox.report_learned(trainer.cursor)
        self._checkpoints.take(
            trainer,
            lambda number: figures is None or self._steps.attempt("twin", lambda: figures.offer(number)),
        )

    def _settle(self) -> None:
        """What was begun is durable; the outbox is trimmed behind it."""
        if self._checkpoints.settle():
            self._steps.hurry("trim", "history", "twin")

    def _checkpoint_now(self) -> None:
        self._settle()
        self.checkpoint()
        self._settle()

    def trim(self) -> None:
        """Drop from the outbox what is durable, but for what a learner that goes back could learn again."""
        self._checkpoints.trim(self._outbox, self._settings.publish.keep_samples)

    def publish(self) -> None:
        """Publish the weights, if the gate lets them through."""
        failpoint("publish.before")
        trainer, now_ms = self.trainer, time.time_ns() // 1_000_000
        self._num_published = trainer.num_trained
        recent = trainer.recent.compute()
        number = self._checkpoints.number
        manifest = self._publisher.publish(trainer.learner, trainer.cursor, recent, now_ms, number)
        if manifest is None:
            return
        self._progress.published_ms = time.time_ns() // 1_000_000
        trainer.published(manifest.version, self._progress.published_ms)
        failpoint("publish.after")

    def write_norms(self) -> None:
        """Write norms ahead of the weights that they belong to."""
        version = self._publisher.version + 1
        self._norms.write(self.trainer.learner, version)
        if self.trainer.meter is not None:
            self.trainer.meter.published(version, time.time_ns() // 1_000_000)

    def report(self) -> None:
        """Leave progress in Redis."""
        trainer = self.trainer
        self._outbox.report_learned(trainer.cursor)
        canary = self._canary.status() if self._canary is not None else None
        status = self._progress.status(
            trainer, self._publisher, self._checkpoints, self._norms.num_waiting, self._weather, canary
        )
        self._replace(keys=[self._keys.learner_status], args=[msgspec.json.encode(status)])
        self._progress.tell(trainer, self._publisher, self._figures.take_alarms() if self._figures else [])

    # Going back -------------------------------------------------------------------------------------------------

    def _heed_rollout(self) -> None:
        """Go back to a kept version's checkpoint, if that is asked for."""
        asked = self._way_back.asked()
        if asked is None:
            return
        why = self._way_back.barred(asked)
        if why:
            self._way_back.refuse(asked, why)
            return
        self._checkpoints.leave()
        self._outbox.report_learned(self.trainer.cursor)
        former = self._outbox.learned()
        remove_behind(self._checkpoints_folder, asked.checkpoint)
        self._publisher.forget_checkpoints(asked.checkpoint)
        self._open()
        self.trainer.go_back_from(former)
        self._num_published = self.trainer.num_trained
        # Behind a checkpoint that knows of it, whoever dies need not be asked again.
        self._checkpoint_now()
        self._way_back.done(asked, self.trainer.num_to_learn_again)

    # The loop ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until SIGTERM or SIGINT; then checkpoint and publish once more.

        Raises:
            LostOwnershipError: another learner has taken over.
            LearnerRunsError: another learner is at work, and `publish.second` says not to wait.
            OtherFieldsError: samples wait that were made with other fields; what lies before them is learned.
        """
        if not self._begin():
            return
        spare_garbage_collector()
        publish = self._settings.publish
        while not self._stopping.asked:
            self._ownership.check()
            if not self._steps.attempt("read", self._train):
                time.sleep(_IDLE_S)
            if self.trainer.rolled_back:
                self._heed_rollback()
            if self._checkpoints.is_to_settle:
                self._steps.attempt("checkpoint", self._settle)
            if self._norms.num_waiting >= publish.norms_samples and not self._publisher.held_back:
                self._steps.attempt("norms", self.write_norms)
            if self.trainer.num_trained - self._num_published >= publish.interval_samples:
                self._steps.hurry("publish")
            if self.trainer.num_trained - self._checkpoints.num_taken >= publish.checkpoint_samples:
                self._steps.hurry("checkpoint")
            self._steps.run_due()
            self._status_file.keep()
        self._end()

    def _schedule(self) -> None:
        """Say what is due when."""
        publish = self._settings.publish
        # Before whatever reports how far training has come.
        self._steps.add("rollout", self._heed_rollout, _LATER_EVERY_S)
        self._steps.add("publish", self.publish, publish.interval_s, publish.interval_s)
        self._steps.add("checkpoint", self.checkpoint, publish.checkpoint_s, publish.checkpoint_s)
        self._steps.add("report", self.report, _REPORT_EVERY_S)
        self._steps.add("trim", self.trim, _LATER_EVERY_S)
        if canary := self._canary:
            self._steps.add("canary", lambda: canary.look(self._publisher.version), _LATER_EVERY_S)
        if self._figures is not None:
            self._steps.add("history", self._figures.send_history, _LATER_EVERY_S)
            self._steps.add("twin", self._figures.send_twin, _LATER_EVERY_S)

    def _end(self) -> None:
        """Make durable what was learned, and publish it, as far as Redis and the disk let us."""
        if any(condition.step == "read" for condition in self._weather.conditions):
            log.warning("stopping without a last checkpoint: redis does not answer")
            return
        # What was learned since the last checkpoint is still in the outbox, and will be learned again from there.
        for name, step in (("checkpoint", self._checkpoint_now), ("trim", self.trim), ("publish", self.publish)):
            if not self._steps.attempt(name, step, at_once=True):
                log.warning("stopping without a last %s", name)
                break
        if self._figures is not None:
            self._steps.attempt("history", self._figures.send_history, at_once=True)
            self._steps.attempt("twin", self._figures.send_twin, at_once=True)
        if self._steps.attempt("report", self.report, at_once=True):
            self._ownership.release()
