"""One partition of a state store that is fed by hand."""

from collections.abc import Callable, Sequence

import msgspec
import redis
from support.columns import labelled

from learner.config import FieldSettings, HistorySettings
from learner.samples.former import Sample
from learner.samples.layout import Layout
from simulators.oracle import Expected, Record, expect
from simulators.runs.summary import differences
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.outbox import Outbox
from state_store.records import OutboxEntry
from state_store.states import StateStore
from state_store.tasks import TaskSettings
from stream.events import Event, Feedback, Heartbeat, encode_event
from stream.ingest.rows import Decoded, LogRecord
from stream.ingest.stage import Ingest
from stream.process.store import kept_histories
from stream.sections import EventSettings

T0 = 10**12
"""Event time at which logs of tests begin, ms; the wall clock is a day later."""
_DAY_MS = 86_400_000
_TOPICS = ("impressions", "feedback")


LIFE_S = 16_000
"""Of users and items of `short_lived`; a sixteenth is 1,000 s."""


def short_lived(settings: RedisSettings) -> RedisSettings:
    """Users and items live for `LIFE_S`."""
    return msgspec.structs.replace(settings, user_ttl_s=LIFE_S, item_ttl_s=LIFE_S)


class Fed:
    """Ingest on a real Redis.

    Args:
        client: Redis.
        settings: where in it.
        join: how labels are joined.
        fields: declared fields.
        actions: declared actions.
        tasks: declared tasks.
        histories: declared histories.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: RedisSettings,
        join: JoinSettings,
        fields: Sequence[FieldSettings],
        actions: Sequence[str],
        tasks: Sequence[TaskSettings] = (),
        histories: Sequence[HistorySettings] = (),
    ) -> None:
        self._actions, self._tasks, self._join, self.fields = ActionSettings(tuple(actions)), tasks, join, fields
        self._settings, self._histories = settings, histories
        self.layout = Layout(fields, actions, histories)
        kept = kept_histories(self.layout)
        self.store = StateStore(client, settings, join, self._actions, _TOPICS, tasks, kept)
        self.ingest = Ingest(self.store, fields, self._actions, EventSettings(), lambda dead: None, histories=histories)
        self.ingest.assign(0)
        self.log: list[Record] = []

    def continued(self, join: JoinSettings) -> "Fed":
        """The same partition, of which somebody else takes over with other settings."""
        after = Fed(self.store.client, self._settings, join, self.fields, self._actions.names, self._tasks)
        after.log = self.log
        return after

    def taken_over(self) -> None:
        """A worker takes over, as after a restart: it has nothing in its memory."""
        self.ingest.assign(0)

    def code(self, coded: Callable[[Decoded], Decoded]) -> None:
        """Let impressions have codes of their samples."""
        self.ingest.code(coded)

    def again(self, topic: int) -> None:
        """The whole log of a topic once more, as after a restart from an older offset."""
        records = [LogRecord(r.offset, r.value, 0) for r in self.log if r.topic == _TOPICS[topic]]
        self.ingest.process(_TOPICS[topic], 0, records, T0 + _DAY_MS)

    def batch(self, topic: int, events: Sequence[Event]) -> None:
        """Events of one topic in one batch."""
        first = sum(record.topic == _TOPICS[topic] for record in self.log)
        records = [LogRecord(first + n, encode_event(event), 0) for n, event in enumerate(events)]
        self.log += [Record(_TOPICS[topic], 0, r.offset, r.value or b"") for r in records]
        self.ingest.process(_TOPICS[topic], 0, records, T0 + _DAY_MS)

    def feed(self, *events: Event) -> None:
        """Events, one a batch; a heartbeat goes to both topics."""
        for event in events:
            for topic in (0, 1) if isinstance(event, Heartbeat) else (int(isinstance(event, Feedback)),):
                self.batch(topic, [event])

    def entries(self) -> list[OutboxEntry]:
        """The whole outbox."""
        return Outbox(self.store.client, self.store.keys.prefix, 1).read({}, max_entries=1000).entries

    def samples(self) -> list[Sample]:
        """All samples in the outbox, those included that say that an impression was shown."""
        return labelled((entry.payload for entry in self.entries()), self.fields, self._actions.names, shown=True)

    def expected(self) -> Expected:
        """Totals of all that was fed by the oracle, once they are found to be the store's."""
        found = expect(self.log, self._join, self._actions, self._tasks, self._histories)
        wrong = differences(self.store, 1, found)
        assert wrong == {}, msgspec.json.encode(wrong)
        return found
