"""Values of a row that belong together, and what new rows start with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from learner.tables.rows import Start

MAX_ROWS = (1 << 31) - 2


class Group(NamedTuple):
    """Values that belong together."""

    name: str
    width: int
    fill: float = 0.0
    """What a new row's values are, plus a normal value if `stds` says so."""
    stds: tuple[float, ...] = ()
    """Standard deviation of a new row's values, per field; all 0 if not given."""


def check(groups: Sequence[Group], num_fields: int, max_rows: int, counted: int) -> None:
    """Whether sizes make sense.

    Raises:
        ValueError: they do not.
    """
    if not 0 < max_rows <= MAX_ROWS:
        raise ValueError(f"max_rows must be 1 to {MAX_ROWS:,}, got {max_rows:,}")
    if not 0 < counted <= 1 << 26:
        raise ValueError(f"the admission filter counts 1 to {1 << 26:,} ids, not {counted:,}")
    if not 0 < num_fields <= 256:
        raise ValueError(f"a table has 1 to 256 fields, not {num_fields}")
    for group in groups:
        if group.width < 1 or len(group.stds) not in (0, num_fields):
            raise ValueError(
                f"values {group.name}: width must be >= 1, got {group.width}, and stds one per field, {num_fields}, or "
                f"none, got {len(group.stds)}"
            )


def start_of(groups: Sequence[Group], min_count_F: np.ndarray, seed: int, capacity: int) -> Start:
    """Per value what a new row starts with; each group has a normal vector of its own."""
    num_fields = len(min_count_F)
    stds = [np.tile(np.array(g.stds or (0.0,) * num_fields, np.float64)[:, None], g.width) for g in groups]
    return Start(
        np.concatenate([np.full(g.width, g.fill, np.float64) for g in groups]),
        np.concatenate(stds, axis=1),
        np.concatenate([np.full(g.width, seed + (n << 32), np.uint64) for n, g in enumerate(groups)]),
        np.concatenate([np.arange(g.width) for g in groups]),
        min_count_F,
        capacity,
    )
