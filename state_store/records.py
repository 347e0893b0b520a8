"""What the state store hands out: outcomes of a batch, states of users and items, outbox entries."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What the fence said to a batch."""

    OK = "OK"
    DUP = "DUP"
    """Every record was applied before: acknowledge."""
    OVERLAP = "OVERLAP"
    """Some records were applied before: trim to the fence and try again."""
    GAP = "GAP"
    """Applied, but offsets of this batch were gone from the log before they were read."""
    HOLE = "HOLE"
    """The batch does not begin right behind the fence: refuse, and read again from there."""
    ROLLBACK = "ROLLBACK"
    """Redis was restored from before the last batch: refuse, and read again from the fence."""
    ZOMBIE = "ZOMBIE"
    """A newer owner of the partition exists: refuse and stop."""


class Applied(msgspec.Struct, frozen=True):
    """The answer to one batch."""

    outcome: Outcome
    offset: int
    """Last offset applied of this topic partition, -1 if none."""
    sequence: int
    """Sequence number of the newest sample in the partition's outbox."""
    learned: int
    """Sequence number of the last sample that the learner trained on."""
    more: bool
    """Deadlines are left over: call again with an empty batch."""
    epoch: int

    @property
    def backlog(self) -> int:
        """Samples in the outbox that the learner has not trained on."""
        return self.sequence - self.learned


class Span(msgspec.Struct, frozen=True):
    """The offsets that a batch covers, from right behind the one before it; not each needs to be a record."""

    first: int
    last: int
    num_lost: int = 0
    """How many of its first offsets were gone from the log before they were read."""

    def behind(self, offset: int) -> "Span":
        """What of it lies behind an offset.

        >>> Span(5, 20, 10).behind(9)
        Span(first=10, last=20, num_lost=5)
        """
        return Span(offset + 1, self.last, max(0, self.first + self.num_lost - offset - 1))


class Reading(msgspec.Struct, frozen=True):
    """The wall clock at a call, and, if it comes without records, how far the topics of the partition are read."""

    now_ms: int = 0
    """0 where it is not known."""
    quiet: tuple[str, ...] = ()
    """Topics read to their end that have brought nothing for `idle_after_ms`."""
    read: tuple[str, ...] = ()
    """Topics that are read as they are written."""
    idle_after_ms: int = 0


class Call(msgspec.Struct, frozen=True):
    """One call of `lua/apply`: what lies in a range of offsets of one topic partition."""

    partition: int
    """Of Kafka, the same for both topics."""
    topic: str
    span: Span
    """The offsets, which begin right behind the fence. Those that are no records are passed over."""
    epoch: int
    """From `StateStore.open_epoch`."""
    records: Sequence[Sequence[object]]
    """Those of the range, in the form that `lua/apply` documents; there may be none."""
    cores: bytes = b""
    """What the impressions say (`Layout.pack_core`), one behind the other; it becomes part of the samples."""
    known_offset: int = -1
    """Last offset of this topic that the caller saw applied; a fence before it means that Redis was restored from an
    older snapshot."""
    num_misplaced: int = 0
    """How many of the records belong in another partition by their user; to be counted."""
    reading: Reading = Reading()
    """The wall clock, and how far the topics are read."""


class EntityState(msgspec.Struct, frozen=True):
    """Counters and embedding norm of one user or item, as of the read."""

    counts: tuple[int, ...]
    """Impressions, then one count per action in `actions.names`."""
    norm: float = 0.0
    norm_version: int = 0
    first_ts: int = 0
    last_ts: int = 0
    """Event times of a user's first and last impression."""


class OutboxEntry(msgspec.Struct, frozen=True):
    """Joined samples of one batch, in the msgpack form the learner decodes."""

    partition: int
    sequence: int
    """Sequence number of the entry's last sample; the first is `sequence - len + 1`."""
    payload: bytes


class OutboxRead(msgspec.Struct, frozen=True):
    """What one read of the outbox found."""

    entries: list[OutboxEntry]
    rolled_back: dict[int, int]
    """Partitions whose Redis was restored from an older snapshot -> the last sequence it knows to be trained on. None
    of their entries are in `entries`."""


WIDTH = 8
"""Values of a record, as the script counts them (`lua/apply/00_contract.lua`)."""
_FILL = [(False,) * (WIDTH - width) for width in range(WIDTH + 1)]


def flat(records: Iterable[Sequence[object]]) -> list[object]:
    """Records one behind the other, each filled up to one width: the script reads that faster than a list of lists."""
    values: list[object] = []
    for record in records:
        values += record
        values += _FILL[len(record)]
    return values
