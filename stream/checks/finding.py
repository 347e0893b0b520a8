"""One thing that was looked at."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How a thing stands."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, and somebody should look at it."""
    BAD = "bad"
    """It will not work until somebody mends it."""


class Finding(msgspec.Struct, frozen=True):
    """What was found of one thing."""

    subject: str
    level: Level
    detail: str
    """In words; of what is not well also what to do."""

    @property
    def is_ok(self) -> bool:
        """Whether there is nothing to do."""
        return self.level is Level.OK


def ok(subject: str, detail: str) -> Finding:
    """A thing that is well."""
    return Finding(subject, Level.OK, detail)


def degraded(subject: str, detail: str) -> Finding:
    """A thing that works, but not as it should."""
    return Finding(subject, Level.DEGRADED, detail)


def bad(subject: str, detail: str) -> Finding:
    """A thing that does not work."""
    return Finding(subject, Level.BAD, detail)


def worst(findings: Iterable[Finding]) -> Level:
    """The level of all of them together.

    >>> worst([ok("a", ""), degraded("b", "")])
    <Level.DEGRADED: 'degraded'>
    """
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.BAD, Level.DEGRADED) if level in levels), Level.OK)
