"""When each event of a replay is due."""

from typing import Annotated

import msgspec
from msgspec import Meta


class PaceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a replay writes. With no bound: as fast as it can."""

    events_per_s: Annotated[float, Meta(ge=0, le=1_000_000_000)] = 0.0
    """0: no fixed rate."""
    in_flight: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Most events written but not yet learned from, so that the pipeline sets the speed; 0: no bound."""
    speed: Annotated[float, Meta(ge=0, le=1_000_000_000)] = 0.0
    """Seconds of event time per second: 1 is life, 1000 a thousand times as fast; 0: no such bound."""

    def __post_init__(self) -> None:
        if self.events_per_s and self.speed:
            raise ValueError(
                f"a rate of {self.events_per_s} events/s and a speed of {self.speed} exclude each other; set one to 0"
            )


class Pace:
    """Due times from one beginning, so that what is late once is caught up, and errors never add up.

    Args:
        settings: the speed.
        began_s: a clock's reading when the first event is due, seconds.

    >>> pace = Pace(PaceSettings(speed=1000), began_s=5.0)
    >>> [pace.due_s(number, written_ms) for number, written_ms in enumerate([70_000, 71_000, 90_000])]
    [5.0, 5.001, 5.02]
    """

    def __init__(self, settings: PaceSettings, began_s: float) -> None:
        self._settings = settings
        self._began_s = began_s
        self._first_ms: float | None = None

    def due_s(self, number: int, written_ms: float) -> float:
        """The clock's reading when an event is due, seconds; the beginning where nothing bounds the speed.

        Args:
            number: of the event, from 0.
            written_ms: when it is written, by the log's own clock.
        """
        settings = self._settings
        if settings.events_per_s:
            return self._began_s + number / settings.events_per_s
        if not settings.speed:
            return self._began_s
        if self._first_ms is None:
            self._first_ms = written_ms
        return self._began_s + (written_ms - self._first_ms) / 1000 / settings.speed

    def stand_still(self, seconds: float) -> None:
        """Put off whatever is not written yet: time did not go on while the replay was paused."""
        self._began_s += seconds
