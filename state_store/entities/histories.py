"""Histories: what a user did lately, kept with the user's counters by the script `lua/apply`.

A history is a string of entries, newest last: event time as a double, key of the item, key of its category (0: none),
each of 8 bytes, little endian. Entries are in the order of event time, then of their keys, so that the order in which
feedback comes decides nothing. As of an impression it is what lies before the impression's event time.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import redis

from state_store.entities.audit import each_below

ENTRY_BYTES = 24
SPARE = 2
"""So many times its length are kept of a history. What a user does between an impression and the last of its samples is
newer than the impression, and must not push out what its samples are to carry."""


class KeptHistory(msgspec.Struct, frozen=True):
    """One history of every user."""

    field: str
    """Of the user's hash."""
    mask: int
    """Actions that append to it, a bit each."""
    length: int
    """Entries that a sample carries at most."""


class Histories(msgspec.Struct, frozen=True):
    """All that are kept, and where an impression's core says what goes in."""

    kept: tuple[KeptHistory, ...] = ()
    tag: int = -1
    """Of the layout whose samples carry histories; those of another carry none."""
    places: Mapping[int, tuple[int, ...]] = {}
    """Tag of a layout -> where the item's key is in the core's fixed part, then, of each history, that of the category
    (-1: it has none)."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Of a user's hash."""
        return tuple(history.field for history in self.kept)


def history_field(name: str, by: str) -> str:
    """Name of a history in a user's hash. With another category it is another history, and begins anew.

    >>> history_field("liked", ""), history_field("liked", "genre")
    ('history:liked', 'history:liked:genre')
    """
    return f"history:{name}:{by}" if by else f"history:{name}"


def history_options(histories: Histories) -> dict[str, Any]:
    """What the script has to know of them."""
    return {
        "histories": [
            {"field": kept.field, "mask": kept.mask, "length": kept.length, "kept": SPARE * kept.length}
            for kept in histories.kept
        ],
        "history_tag": histories.tag,
        "history_places": dict(histories.places),
    }


def read_histories(client: redis.Redis, prefix: str, field: str) -> dict[str, bytes]:
    """One history of every user who has one; for audits, not for the hot path.

    Args:
        client: Redis.
        prefix: of the users' keys, of one partition.
        field: of a user's hash.
    """
    found = each_below(client, prefix, lambda pipe, key: pipe.hget(key, field))
    return {user_id: text for user_id, text in found if text}
