"""Worlds of which a test makes one in a moment."""

import msgspec

from simulators.world.parameters import Parameters

SMALL = msgspec.convert(
    {
        "step_minutes": 480,
        "users": {"number": 150, "turnover": 0.2, "visits_per_day": 1.0, "activity": {"sigma": 1.5}},
        "items": {"number": 120, "popularity": {"sigma": 1.5}},
        "lists": {"size": 4},
    },
    Parameters,
)
