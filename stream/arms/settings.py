"""Arms: weights that a part of the users are served, to compare them."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

LIVE = "live"
"""The arm of users that are in no other."""


class ArmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights that a part of the users are served, to compare them (`[[serving.arms]]`)."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
    """Of the arm, in answers, events and figures; that of whoever is in no arm is `live`."""
    prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{0,200}\Z")] = ""
    """`redis.prefix` of the learner whose newest weights are served; empty: this pipeline's own. Its fields, actions
    and model have to be the same."""
    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """A kept version to stay at, of `coldstream weights list`; 0: the newest."""
    percent: Annotated[float, Meta(gt=0, le=100)]
    """Of the users; by a hash of `serving.salt` and the user, so that whoever is in it stays in it."""
    mirror: bool = False
    """Whether its weights only score along, and the users are served as if there were no such arm."""

    def __post_init__(self) -> None:
        if self.name == LIVE:
            raise ValueError(f"serving.arms: {LIVE!r} is the name of whoever is in no arm; give another one")
        if not self.prefix and not self.version:
            raise ValueError(f"serving.arms: arm {self.name!r} names no weights; give it a prefix or a version")


def check_arms(arms: Sequence[ArmSettings]) -> None:
    """Whether arms can be told apart, and users suffice for them.

    Raises:
        ValueError: they cannot, or do not.
    """
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise ValueError(f"serving.arms: two arms have one name, of {names}")
    if sum(arm.percent for arm in arms) > 100 + 1e-9:
        raise ValueError(f"serving.arms: {[arm.percent for arm in arms]} percent are more than 100")


def own_versions(arms: Sequence[ArmSettings]) -> frozenset[int]:
    """Versions of this pipeline's own weights that arms stay at.

    >>> arms = [ArmSettings(name="a", version=3, percent=1), ArmSettings(name="b", version=4, percent=1, prefix="b")]
    >>> own_versions(arms)
    frozenset({3})
    """
    return frozenset(arm.version for arm in arms if arm.version and not arm.prefix)
