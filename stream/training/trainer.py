"""The training stage: outbox -> micro-batches -> predict, then learn. No clock, no process; time is an argument."""

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np

from learner.learner import Learner
from learner.metrics import RecentAuc, sampling_weights
from learner.sample import Sample, SampleKind, decode_samples
from state_store.outbox import Outbox
from state_store.records import OutboxEntry
from stream.monitor.figures.meter import Meter
from stream.prediction_log import PredictionLog, SampleKey, item_mean_baseline, log_columns, sample_key
from stream.training.norms import NormWriter

_ENTRIES_PER_READ = 16
_LOADED_AT = 100
"""Micro-batches waiting, from which on they grow."""
_FRESHNESS_BINS = 400


Place = tuple[int, int, Sample | None]
"""Partition, sequence number, and the sample there, unless it was learned before."""


def _is_learned(sample: Sample | None) -> bool:
    """Whether the model trains on it."""
    return sample is not None and sample.kind is not SampleKind.TASK_CORRECTION


class Freshness:
    """Distribution of times from an event's record to the first published weights that learned from it.

    A histogram with logarithmic bins from 1 ms to about 28 hours, 4.7 % apart: constant memory, survives restarts.

    >>> freshness = Freshness()
    >>> freshness.update(np.array([1000.0, 1000.0, 5000.0]))
    >>> round(freshness.quantile(0.5), 1)
    1.0
    """

    def __init__(self, counts: list[int] | None = None) -> None:
        self.counts = np.array(counts if counts is not None else [0] * _FRESHNESS_BINS, np.int64)

    def update(self, ages_ms: np.ndarray) -> None:
        """Take ages in."""
        bins = np.clip(np.log(np.maximum(ages_ms, 1.0)) / np.log(1e8) * _FRESHNESS_BINS, 0, _FRESHNESS_BINS - 1)
        np.add.at(self.counts, bins.astype(np.int64), 1)

    def quantile(self, q: float) -> float:
        """Quantile in seconds; NaN if there is nothing yet."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        at = int(np.searchsorted(np.cumsum(self.counts), q * total))
        return float(1e8 ** ((at + 0.5) / _FRESHNESS_BINS)) / 1000


class TrainerState(msgspec.Struct, frozen=True):
    """What a checkpoint keeps of the trainer itself."""

    cursor: dict[int, int]
    num_by_kind: list[int]
    freshness: list[int]
    skip: dict[int, list[SampleKey]] = {}
    """Partition -> samples learned already that a restored Redis will emit again."""
    num_missed: int = 0
    num_ageless: int = 0


class Trainer:
    """Reads joined samples behind a cursor and trains on each once.

    The model learns the main task. What becomes known of other tasks' labels after their base sample has left is
    logged, and not learned from.

    Args:
        learner: what learns.
        outbox: where samples come from.
        log: where predictions go.
        state: where an earlier trainer was.
        meter: sums the predictions up by cohort.
        positive: the actions, by number, that make the main task's label 1.
        norms: is told who was learned from.
    """

    def __init__(
        self,
        learner: Learner,
        outbox: Outbox,
        log: PredictionLog,
        state: TrainerState | None = None,
        meter: Meter | None = None,
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
        self.freshness = Freshness(state.freshness if state else None)
        self.recent = RecentAuc()
        self.meter = meter
        self.version = 0
        """Version of the last published weights."""
        self.num_ageless = state.num_ageless if state else 0
        """Samples whose record did not say when it was written, or made no sense of it; in no freshness."""
        self.num_missed = state.num_missed if state else 0
        """Samples that were trimmed from the outbox before this learner saw them: behind another one's checkpoint."""
        self.rolled_back = False
        """Set when Redis was found to be older than the training; whoever publishes clears it."""
        self._skip = {p: set(keys) for p, keys in state.skip.items()} if state else {}
        self._buffer: deque[Place] = deque()
        self._at_hand = 0
        self._read: dict[int, int] = dict(self.cursor)
        self._norms = norms
        self._unpublished_ms: list[int] = []
        outbox.expect(self.cursor)

    @property
    def num_trained(self) -> int:
        """Samples trained on, or logged if the model does not learn their task."""
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
        )

    def fill(self) -> int:
        """Read ahead if less than a micro-batch is at hand; returns the samples at hand."""
        if self._at_hand < self.learner.settings.max_micro_batch:
            found = self._outbox.read(self._read, max_entries=_ENTRIES_PER_READ)
            for partition, known in found.rolled_back.items():
                self._rewind(partition, known)
            for entry in found.entries:
                self._take(entry)
            passed = self._pop_unlearned()
            self._advance(passed)
            self._log_unlearned(passed)
        return self._at_hand

    def _take(self, entry: OutboxEntry) -> None:
        """Put an entry's samples behind the others; of those that were learned before, only the place."""
        samples = decode_samples(entry.payload)
        first = entry.sequence - len(samples) + 1
        seen = self._read.get(entry.partition, 0)
        if first > seen + 1:
            self.num_missed += first - seen - 1
        skip = self._skip.get(entry.partition, set())
        for i, sample in enumerate(samples):
            if first + i <= seen:
                continue
            known = bool(skip) and sample_key(sample) in skip
            if known:
                skip.remove(sample_key(sample))
            self._buffer.append((entry.partition, first + i, None if known else sample))
            self._at_hand += not known and _is_learned(sample)
        self._read[entry.partition] = entry.sequence

    def _pop_unlearned(self) -> list[Place]:
        """Take what stands at the front and is not to be trained on."""
        taken = []
        while self._buffer and not _is_learned(self._buffer[0][2]):
            taken.append(self._buffer.popleft())
        return taken

    def _advance(self, places: Sequence[Place]) -> None:
        """Move the cursor over places, in whatever order they are given."""
        for partition, sequence, _ in places:
            self.cursor[partition] = max(self.cursor.get(partition, 0), sequence)

    def _log_unlearned(self, places: Sequence[Place]) -> None:
        """Log what places that are not trained on say of other tasks."""
        said = [(partition, sequence, sample) for partition, sequence, sample in places if sample is not None]
        if said:
            nothing = np.full(len(said), np.nan, np.float32)
            self._log.append(log_columns(said, nothing, nothing, self.version))
            self.num_by_kind[SampleKind.TASK_CORRECTION] += len(said)

    def _rewind(self, partition: int, known: int) -> None:
        """Redis is older than the training: the samples behind `known` will come anew, perhaps in another order.

        What was learned from there on is skipped by id when it comes again.
        """
        self._skip[partition] = self._skip.get(partition, set()) | self._log.learned_behind(partition, known)
        self._buffer = deque(item for item in self._buffer if item[0] != partition)
        self._at_hand = sum(_is_learned(item[2]) for item in self._buffer)
        self._read[partition] = self.cursor[partition] = known
        self._outbox.expect({partition: known})
        self.rolled_back = True

    def step(self, *, partial: bool, now_ms: int = 0) -> int:
        """Train on one micro-batch; returns its size, 0 if none is at hand.

        Args:
            partial: take a micro-batch that is not full, too.
            now_ms: wall clock, for the meter.
        """
        settings = self.learner.settings
        at_hand = self.fill()
        size = min(settings.max_micro_batch, max(settings.micro_batch, at_hand // _LOADED_AT))
        if at_hand < size:
            if not partial or not at_hand:
                return 0
            size = at_hand
        taken, passed = self._pop(size)
        samples = [sample for _, _, sample in taken]
        learned = self.learner.learn(samples)
        predictions, half = learned.predictions_B, learned.counts_BC.shape[1] // 2
        popularity_B = item_mean_baseline(learned.counts_BC[:, half:], self._positive)
        logged = log_columns(taken, predictions, popularity_B, self.version)
        self._log.append(logged)
        if self.meter is not None:
            self.meter.observe(logged, samples, learned, self.version, now_ms)
        self.recent.update(learned.labels_B, predictions, sampling_weights(learned.labels_B, learned.rates_B))
        self._advance([*taken, *passed])
        if self._norms is not None:
            self._norms.note(taken)
        for _, _, sample in taken:
            self.num_by_kind[sample.kind] += 1
            if sample.core.produced_ms:
                self._unpublished_ms.append(sample.core.produced_ms)
            else:
                self.num_ageless += 1
        self._log_unlearned(passed)
        return size

    def _pop(self, size: int) -> tuple[list[tuple[int, int, Sample]], list[Place]]:
        """The next `size` samples to train on, and the places between and right behind them that are passed over."""
        taken: list[tuple[int, int, Sample]] = []
        passed: list[Place] = []
        while len(taken) < size:
            partition, sequence, sample = self._buffer.popleft()
            if sample is not None and _is_learned(sample):
                taken.append((partition, sequence, sample))
            else:
                passed.append((partition, sequence, sample))
        self._at_hand -= size
        return taken, [*passed, *self._pop_unlearned()]

    def published(self, version: int, now_ms: int) -> None:
        """Weights that learned from everything so far are out."""
        self.version = version
        if self.meter is not None:
            self.meter.published(version, now_ms)
        if self._unpublished_ms:
            self.freshness.update(now_ms - np.array(self._unpublished_ms, np.float64))
            self._unpublished_ms = []
