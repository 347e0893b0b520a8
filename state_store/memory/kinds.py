"""What a key of Redis is for, by its name."""

from collections.abc import Sequence
from enum import StrEnum

from state_store.keys import Keys


class Kind(StrEnum):
    """What memory is taken for."""

    USERS = "users"
    """Users' counters and norms, less their histories."""
    HISTORIES = "histories"
    """What users did lately."""
    ITEMS = "items"
    """Items' counters and norms, of which each partition has its own."""
    JOINS = "joins"
    """Impressions and feedback that wait for their labels."""
    OUTBOX = "outbox"
    """Samples that wait for the learner, or are kept for it."""
    WEIGHTS = "weights"
    OTHER = "other"
    """Fences, dead letters, items whose sums are due, reports of the roles, figures for the page."""
    FOREIGN = "foreign"
    """Keys of others in the same Redis."""


_JOINS = frozenset({b"bodies", b"labels", b"arrivals", b"pending", b"waiting", b"due"})


def kind_of(prefix: str, key: bytes) -> Kind:
    """The kind of a key.

    Args:
        prefix: of the pipeline's keys.
        key: its whole name.

    >>> [kind_of("cs", key).value for key in (b"cs:{p3}:u:42", b"cs:{p3}:bodies", b"csv:{p3}:u:4")]
    ['users', 'joins', 'foreign']
    """
    own = f"{prefix}:".encode()
    if not key.startswith(own):
        return Kind.FOREIGN
    tag, _, name = key[len(own) :].partition(b":")
    if tag == b"{w}":
        return Kind.WEIGHTS
    if name.startswith(b"u:"):
        return Kind.USERS
    if name.startswith(b"i:"):
        return Kind.ITEMS
    if name in _JOINS:
        return Kind.JOINS
    return Kind.OUTBOX if name == b"outbox" else Kind.OTHER


def keys_of_partition(keys: Keys, partition: int) -> Sequence[str]:
    """The keys that a partition has one of: all but users' and items'."""
    p = partition
    joins = keys.bodies(p), keys.labels(p), keys.arrivals(p), keys.pending(p), keys.waiting(p), keys.due(p)
    samples = keys.outbox(p), keys.dead(p), keys.learned(p), keys.owner(p)
    return (*joins, *samples, keys.fence(p), keys.dirty(p), keys.rolling(p))
