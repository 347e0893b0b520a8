"""A pipeline in this process: ingest stage and Redis, learner, serving model; no broker, no clock."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import redis

from learner.learner import Learner
from learner.samples.former import read_entry
from learner.samples.layout import Layout
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from simulators.encoding import LogEntry
from simulators.runs.backtest import NOW_MS
from state_store.client import script
from state_store.outbox import Outbox
from stream.ingest.rows import DeadLetter, LogRecord
from stream.ingest.stage import Ingest
from stream.process.store import open_store
from stream.serving.scorer import packed_reads
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.queue import Piece, SampleQueue, whole_batches

_ENTRIES_PER_READ = 256
_USER_STATE = ("user_counts", "user_norm", "user_norm_version", "user_first_ts", "user_last_ts")


class State(msgspec.Struct, frozen=True):
    """What Redis knows of K users and B items, as the columns of samples."""

    users: Mapping[str, np.ndarray]
    """Column -> values (K, ...)."""
    item_counts_BC: np.ndarray
    item_norms_B: np.ndarray
    item_norm_versions_B: np.ndarray


class Pipeline:
    """The product's own stages, called one after the other.

    Args:
        settings: effective settings, of one partition.
        client: an empty Redis, or one whose keys begin otherwise.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._store = open_store(settings, client)
        self.dead: list[DeadLetter] = []
        self._ingest = Ingest(
            self._store,
            settings.fields,
            settings.actions,
            settings.events,
            self.dead.extend,
            histories=settings.histories,
            # Its calls are small and many: they go to Redis without waiting for each other.
            join="script",
        )
        self._ingest.assign(0)
        self._topics, self._offsets = settings.topics, [0, 0]
        self._client = client
        self._reads = packed_reads(settings)
        self._read_state = script(client, "read_state")
        self._outbox = Outbox(client, settings.redis.prefix, 1)
        self._cursor: dict[int, int] = {}
        self._queue = SampleQueue()
        self._learner = Learner(settings.recipe)
        self._norms = NormWriter(self._store, 1)
        self.model = ServingModel(settings.recipe)
        self._values = settings.publish.values
        self.version = 0
        """Of the weights in the serving model; 0: there are none."""

    @property
    def layout(self) -> Layout:
        """Of the samples."""
        return self._learner.layout

    def ingest(self, batches: Iterable[Sequence[LogEntry]]) -> None:
        """Apply records, batch by batch; those of a batch lie in one topic."""
        self._ingest.process_all(((*self._records(batch),) for batch in batches if batch), NOW_MS)
        self._store.roll_up_items([0], 1)

    def _records(self, batch: Sequence[LogEntry]) -> tuple[str, int, list[LogRecord]]:
        topic = batch[0].topic
        first = self._offsets[topic]
        self._offsets[topic] += len(batch)
        return self._topics[topic], 0, [LogRecord(first + n, entry.value, 0) for n, entry in enumerate(batch)]

    def learn(self) -> None:
        """Learn from all that the join has let go; a deep part's last micro-batch waits until it is full."""
        sizes = self._learner.settings.block, self._learner.micro_batch
        while entries := self._outbox.read(self._cursor, max_entries=_ENTRIES_PER_READ).entries:
            for entry in entries:
                samples = read_entry(entry.payload, self.layout)
                sequences = np.arange(entry.sequence + 1 - len(samples), entry.sequence + 1)
                self._queue.put(Piece(entry.partition, sequences, samples, entry.sequence))
            while size := whole_batches(len(self._queue), sizes, partial=False):
                samples = self._queue.pop(size).samples
                self._learner.learn(samples)
                learned = samples.take(samples.is_learned)
                self._norms.note(learned, np.zeros(len(learned), np.int64))
            self._cursor[0] = entries[-1].sequence
            self._outbox.trim(self._cursor)

    def publish(self) -> None:
        """Bring what was learned into the serving model."""
        changed = take_changed(self._learner)
        self.model.load(encode_snapshot(self._learner, changed if self.version else None, self._values))
        self.version += 1
        # The adapter is told norms by the state.
        self._norms.write(self._learner, self.version)

    def state(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> State:
        """What is known of some users and items, in one round trip.

        Args:
            user_ids: K of them, at least one.
            item_ids: B of them.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for n, user_id in enumerate(user_ids):
                keys, args = self._reads.ask(0, user_id, [] if n else item_ids)
                self._read_state(keys=keys, args=args, client=pipe)
            answers = [self._reads.read(answer) for answer in pipe.execute()]
        columns = [
            [a.user_counts_C for a in answers],
            *([getattr(a, name) for a in answers] for name in _USER_STATE[1:]),
        ]
        users = {name: np.array(column) for name, column in zip(_USER_STATE, columns, strict=True)}
        of_items = answers[0]
        return State(users, of_items.item_counts_BC, of_items.item_norm_B, of_items.item_norm_version_B)
