"""The training stage: outbox -> blocks of samples -> predict, then learn. No clock, no process; time is an argument."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from learner.learned import Learned
from learner.metrics import RecentAuc, sampling_weights
from learner.published.changed import AnyLearner
from learner.samples.columns import LayoutError, Samples
from learner.samples.former import read_entry
from learner.samples.kind import SampleKind
from state_store.errors import OperatorError
from state_store.outbox import Outbox
from state_store.records import OutboxEntry
from stream.monitor.figures.meter import Meter
from stream.monitor.history.tasks import TaskMeters
from stream.predictions.columns import SampleKey, item_mean_baseline, log_columns, sample_keys
from stream.predictions.log import PredictionLog
from stream.rollout.judge import Judge
from stream.rollout.trial import Trial
from stream.served import OutcomeListener
from stream.task_columns import TaskColumns, task_columns
from stream.training.freshness import Freshness
from stream.training.norms import NormWriter
from stream.training.queue import Piece, SampleQueue, whole_batches
from stream.training.served.outcomes import OutcomeJoin

_ENTRIES_PER_READ = 16


class OtherFieldsError(OperatorError):
    """Samples wait that this learner cannot read."""


class TrainerState(msgspec.Struct, frozen=True):
    """What a checkpoint keeps of the trainer itself."""

    cursor: dict[int, int]
    num_by_kind: list[int]
    freshness: list[int]
    skip: dict[int, list[SampleKey]] = {}
    """Partition -> samples learned already that a restored Redis will emit again."""
    num_missed: int = 0
    num_ageless: int = 0
    former: dict[int, int] = {}
    """Partition -> last sequence number learned before the learner went back, as long as it is ahead."""
    num_not_again: int = 0
    trial: Trial | None = None
    """Of the canary's judge."""


class Trainer:
    """Reads joined samples behind a cursor and trains on each once.

    The model learns the main task, or all of them (`learner.tasks`). What becomes known of other tasks' labels after
    their base sample has left is logged, and in the latter case learned from; impressions that have just passed are
    predicted and logged.

    Args:
        learner: what learns.
        outbox: where samples come from.
        log: where predictions go.
        state: where an earlier trainer was.
        meter: sums the predictions up by cohort.
        task_meters: sum up those of the other tasks, where all of them are learned.
        positive: the actions, by number, that make the main task's label 1.
        norms: is told who was learned from.
    """

    def __init__(
        self,
        learner: AnyLearner,
        outbox: Outbox,
        log: PredictionLog,
        state: TrainerState | None = None,
        meter: Meter | None = None,
        task_meters: TaskMeters | None = None,
        *,
        positive: Sequence[int] = (0,),
        norms: NormWriter | None = None,
    ) -> None:
        self.learner = learner
        self._outbox = outbox
        self._log = log
        self.cursor: dict[int, int] = dict(state.cursor) if state else {}
        self._positive = tuple(positive)
        self.num_by_kind = [0] * len(SampleKind)
        if state:
            # A checkpoint of a version that knew fewer kinds has fewer.
            self.num_by_kind[: len(state.num_by_kind)] = state.num_by_kind
        self.num_at_start = self.num_trained
        """Samples that were taken before this process."""
        self.freshness = Freshness(state.freshness if state else None)
        self.recent = RecentAuc()
        self.meter = meter
        self.version = 0
        """Version of the last published weights."""
        self.num_ageless = state.num_ageless if state else 0
        """Samples whose record did not say when it was written, or made no sense of it; in no freshness."""
        self.num_missed = state.num_missed if state else 0
        """Samples that were trimmed from the outbox before this learner saw them: behind another one's checkpoint."""
        self.num_not_again = state.num_not_again if state else 0
        """Samples learned before this learner went back to an older checkpoint, and trimmed since."""
        self._former = dict(state.former) if state else {}
        self.rolled_back = False
        """Set when Redis was found to be older than the training; whoever publishes clears it."""
        self._skip = {p: set(keys) for p, keys in state.skip.items()} if state else {}
        self._queue = SampleQueue()
        self._read: dict[int, int] = dict(self.cursor)
        self._norms = norms
        self._task_meters = task_meters
        self.judge: Judge | None = None
        """Of the canary, where there is one; its trial is a part of the state."""
        self.outcomes = OutcomeJoin()
        """Of what a scorer served."""
        self._listeners: list[OutcomeListener] = []
        self._unpublished_ms: list[np.ndarray] = []
        outbox.expect(self.cursor)

    @property
    def num_trained(self) -> int:
        """Samples that were taken from the outbox: trained on, or logged if the model does not learn from them."""
        return sum(self.num_by_kind)

    def state(self) -> TrainerState:
        """For a checkpoint."""
        skip = {p: sorted(keys) for p, keys in self._skip.items() if keys}
        return TrainerState(
            dict(self.cursor),
            list(self.num_by_kind),
            self.freshness.counts.tolist(),
            skip,
            self.num_missed,
            self.num_ageless,
            {p: sequence for p, sequence in self._former.items() if sequence > self.cursor.get(p, 0)},
            self.num_not_again,
            self.judge.trial if self.judge is not None else None,
        )

    def go_back_from(self, former: Mapping[int, int]) -> None:
        """The learner had come farther (partition -> sequence number): what is gone up to there is not missed."""
        self._former = dict(former)

    @property
    def num_to_learn_again(self) -> int:
        """Samples that the learner had learned before it went back, and has not reached again."""
        return sum(max(0, sequence - self.cursor.get(p, 0)) for p, sequence in self._former.items())

    def fill(self) -> int:
        """Read ahead if less than a block is at hand; returns the samples at hand.

        Raises:
            OtherFieldsError: all that waits was made with other fields, or lies behind such samples; nothing is lost.
        """
        if len(self._queue) < self.learner.settings.block:
            found = self._outbox.read(self._read, max_entries=_ENTRIES_PER_READ)
            for partition, known in found.rolled_back.items():
                self._rewind(partition, known)
            self._take_all(found.entries)
            self.cursor |= self._queue.pass_empty()
        return len(self._queue)

    def _take_all(self, entries: Sequence[OutboxEntry]) -> None:
        """Take what can be read of entries; what lies before samples of another layout is learned first."""
        blocked: dict[int, LayoutError] = {}
        for entry in entries:
            if entry.partition in blocked:
                continue
            try:
                self._take(entry)
            except LayoutError as exc:
                blocked[entry.partition] = exc
        if blocked and not len(self._queue):
            raise OtherFieldsError(str(next(iter(blocked.values()))))

    def _take(self, entry: OutboxEntry) -> None:
        """Put an entry's samples behind the others; of those that were learned before, only the place."""
        samples = read_entry(entry.payload, self.learner.layout)
        first = entry.sequence - len(samples) + 1
        seen = self._read.get(entry.partition, 0)
        if first > seen + 1:
            again = max(0, min(first - 1, self._former.get(entry.partition, 0)) - seen)
            self.num_not_again += again
            self.num_missed += first - seen - 1 - again
        if first <= seen:
            samples, first = samples.slice(seen + 1 - first, len(samples)), seen + 1
        sequences = np.arange(first, entry.sequence + 1)
        skip = self._skip.get(entry.partition)
        if skip:
            keys = sample_keys(samples)
            new = np.array([key not in skip for key in keys], np.bool_)
            skip.difference_update(keys)
            samples, sequences = samples.take(new), sequences[new]
        self._queue.put(Piece(entry.partition, sequences, samples, entry.sequence))
        self._read[entry.partition] = entry.sequence

    def _rewind(self, partition: int, known: int) -> None:
        """Redis is older than the training: the samples behind `known` will come anew, perhaps in another order.

        What was learned from there on is skipped by id when it comes again.
        """
        self._skip[partition] = self._skip.get(partition, set()) | self._log.learned_behind(partition, known)
        self._queue.forget(partition)
        self._read[partition] = self.cursor[partition] = known
        self._outbox.expect({partition: known})
        self.rolled_back = True

    def step(self, *, partial: bool, now_ms: int = 0) -> int:
        """Take one block of whole micro-batches; returns its size, 0 if none is at hand.

        Args:
            partial: take less than a micro-batch, too, if there is no more.
            now_ms: wall clock, for the meter.
        """
        sizes = self.learner.settings.block, self.learner.micro_batch
        size = whole_batches(self.fill(), sizes, partial=partial)
        if not size:
            return 0
        taken = self._queue.pop(size)
        samples, rows = taken.samples, taken.samples.rows_B
        learned = self.learner.learn(samples)
        popularity_B = item_mean_baseline(rows["item_counts"], self._positive)
        places = taken.partitions_B, taken.sequences_B
        by_task = self._by_task(samples, learned)
        logged = log_columns(
            samples, places, learned.predictions_B, learned.ranks_B, popularity_B, self.version, by_task
        )
        self._log.append(logged)
        if self._task_meters is not None:
            self._task_meters.observe(logged, samples, learned, self.version, now_ms)
        if self._norms is not None:
            self._norms.note(samples, taken.partitions_B)
        is_labelled_B = samples.is_labelled
        if not is_labelled_B.all():
            samples, learned = samples.take(is_labelled_B), learned.take(is_labelled_B)
            logged = logged.take(is_labelled_B)
        if len(samples):
            if self.meter is not None:
                self.meter.observe(logged, samples, learned, self.version, now_ms)
            self._tell_outcomes(samples, learned, now_ms)
            weights_B = sampling_weights(learned.labels_B, learned.rates_B)
            self.recent.update(learned.labels_B, learned.predictions_B, weights_B)
            self._note_ages(samples.rows_B["produced_ms"])
        self.cursor |= taken.ends
        for kind, number in enumerate(np.bincount(rows["kind"], minlength=len(SampleKind)).tolist()):
            self.num_by_kind[kind] += number
        return len(rows)

    def hear(self, *listeners: OutcomeListener) -> None:
        """Tell these, too, of the outcomes of what was served."""
        self._listeners += listeners

    def _tell_outcomes(self, samples: Samples, learned: Learned, now_ms: int) -> None:
        outcomes = self.outcomes.join(samples, learned)
        if outcomes is not None and len(outcomes):
            for listener in self._listeners:
                listener.observe(outcomes, now_ms)

    def _by_task(self, samples: Samples, learned: Learned) -> TaskColumns | None:
        if learned.by_task is None:
            return None
        counts_BC = samples.rows_B["item_counts"]
        popularity = [item_mean_baseline(counts_BC, task.positive) for task in self.learner.recipe.tasks]
        return task_columns(samples, learned.by_task, np.stack(popularity, axis=1))

    def _note_ages(self, produced_B: np.ndarray) -> None:
        known_N = produced_B[produced_B > 0]
        self.num_ageless += len(produced_B) - len(known_N)
        self._unpublished_ms.append(known_N)

    def published(self, version: int, now_ms: int) -> None:
        """Weights that learned from everything so far are out."""
        self.version = version
        if self.meter is not None:
            self.meter.published(version, now_ms)
        if self._task_meters is not None:
            self._task_meters.published(version, now_ms)
        if self._unpublished_ms:
            self.freshness.update(now_ms - np.concatenate(self._unpublished_ms).astype(np.float64))
            self._unpublished_ms = []
