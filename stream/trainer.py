"""The training stage: outbox -> micro-batches -> predict, then learn. No clock, no process; time is an argument."""

from collections import deque
from collections.abc import Mapping

import msgspec
import numpy as np

from learner.learner import Learner
from learner.metrics import RecentAuc
from learner.sample import Sample, SampleKind, decode_samples
from state_store.outbox import Outbox
from stream.prediction_log import PredictionLog

_ENTRIES_PER_READ = 16
_LOADED_AT = 100
"""Micro-batches waiting, from which on they grow."""
_FRESHNESS_BINS = 400


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


class Trainer:
    """Reads joined samples behind a cursor and trains on each once.

    Args:
        learner: what learns.
        outbox: where samples come from.
        log: where predictions go.
        cursor: partition -> sequence number of the last sample trained on.
    """

    def __init__(self, learner: Learner, outbox: Outbox, log: PredictionLog, state: TrainerState | None = None) -> None:
        self.learner = learner
        self._outbox = outbox
        self._log = log
        self.cursor: dict[int, int] = dict(state.cursor) if state else {}
        self.num_by_kind = list(state.num_by_kind) if state else [0] * len(SampleKind)
        self.freshness = Freshness(state.freshness if state else None)
        self.recent = RecentAuc()
        self.version = 0
        """Version of the last published weights."""
        self._buffer: deque[tuple[int, int, Sample]] = deque()
        self._read: dict[int, int] = dict(self.cursor)
        self._users: dict[str, int] = {}
        self._unpublished_ms: list[int] = []

    @property
    def num_trained(self) -> int:
        """Samples trained on."""
        return sum(self.num_by_kind)

    def state(self) -> TrainerState:
        """For a checkpoint."""
        return TrainerState(dict(self.cursor), list(self.num_by_kind), self.freshness.counts.tolist())

    def fill(self) -> int:
        """Read ahead if less than a micro-batch is at hand; returns the samples at hand."""
        if len(self._buffer) < self.learner.settings.max_micro_batch:
            for entry in self._outbox.read(self._read, max_entries=_ENTRIES_PER_READ):
                samples = decode_samples(entry.payload)
                first = entry.sequence - len(samples) + 1
                seen = self._read.get(entry.partition, 0)
                self._buffer.extend(
                    (entry.partition, first + i, sample) for i, sample in enumerate(samples) if first + i > seen
                )
                self._read[entry.partition] = entry.sequence
        return len(self._buffer)

    def step(self, *, partial: bool) -> int:
        """Train on one micro-batch; returns its size, 0 if none is at hand.

        Args:
            partial: take a micro-batch that is not full, too.
        """
        settings = self.learner.settings
        at_hand = self.fill()
        size = min(settings.max_micro_batch, max(settings.micro_batch, at_hand // _LOADED_AT))
        if at_hand < size:
            if not partial or not at_hand:
                return 0
            size = at_hand
        taken = [self._buffer.popleft() for _ in range(size)]
        samples = [sample for _, _, sample in taken]
        predictions = self.learner.learn_many(samples)
        self._log.append(samples, predictions, self.version)
        self.recent.update(np.array([s.label for s in samples], np.float32), predictions)
        for partition, sequence, sample in taken:
            self.cursor[partition] = sequence
            self._users[sample.core.user_id] = partition
            self.num_by_kind[sample.kind] += 1
            self._unpublished_ms.append(sample.core.produced_ms)
        return size

    def take_users(self) -> Mapping[str, int]:
        """Users trained on since the last call -> partition."""
        users, self._users = self._users, {}
        return users

    def published(self, version: int, now_ms: int) -> None:
        """Weights that learned from everything so far are out."""
        self.version = version
        if self._unpublished_ms:
            self.freshness.update(now_ms - np.array(self._unpublished_ms, np.float64))
            self._unpublished_ms = []
