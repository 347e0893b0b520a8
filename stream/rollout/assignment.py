"""Which users are served what: by a hash of a salt and the user, so that whoever is in a group stays in it."""

import msgspec
from xxhash import xxh3_64_intdigest

from stream.arms.settings import ArmSettings
from stream.sections import ServingSettings


class Place(msgspec.Struct, frozen=True):
    """Where a user belongs."""

    arm: ArmSettings | None = None
    """None: in no arm."""
    canary: bool = False
    """Among those who get the newest weights at once; never whoever is in an arm."""


def drawn(salt: str, purpose: str, user_id: str) -> float:
    """A number in [0, 1) that is a user's own for a purpose, and independent of that for another one.

    >>> drawn("s", "canary", "u1") == drawn("s", "canary", "u1") != drawn("s", "arm", "u1")
    True
    """
    return xxh3_64_intdigest(f"{salt}\x00{purpose}\x00{user_id}".encode()) / 2.0**64


def place_of(settings: ServingSettings, user_id: str) -> Place:
    """A user's place.

    Arms take their parts in the order of their declaration: a greater percentage of the last one moves nobody else.
    """
    end, at = 0.0, drawn(settings.salt, "arm", user_id) * 100 if settings.arms else 100.0
    for arm in settings.arms:
        end += arm.percent
        if at < end:
            return Place(arm)
    share = settings.canary_share
    return Place(None, share > 0 and drawn(settings.salt, "canary", user_id) < share)
