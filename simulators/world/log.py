"""A world as a log: what it shows where nobody ranks, row by row, in constant memory."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from simulators.logs.log import ROWS, FeatureTable, Log, recorded
from simulators.world.items import NONE
from simulators.world.parameters import Parameters
from simulators.world.rows import Rows, feedback_of, settings_of
from simulators.world.world import Impressions, Visits, World, joined

NAME = "world"
_DRAWN = 2
"""Candidates drawn for a place of a list: some are repetitions."""


def show_unranked(world: World, visits: Visits) -> Impressions:
    """Show candidates as they come."""
    lists = world.parameters.lists
    slots_VC = world.candidates(len(visits), _DRAWN * lists.size, lists.shown)
    fits_VC = np.cumsum(slots_VC != NONE, axis=1) <= lists.size
    return world.show(visits, np.where(fits_VC, slots_VC, NONE))


class WorldLog(Log):
    """Rows of a world, the same each time they are asked for.

    Args:
        parameters: of the world.
        seed: of the world.
        num_rows: how many rows it has.
        name: as `--log` has it.
    """

    def __init__(self, parameters: Parameters, seed: int, num_rows: int, name: str = NAME) -> None:
        self.name, self.source, self.licence = name, name, "none: made up"
        self.parameters, self._seed, self._num_rows = parameters, seed, num_rows
        self.settings = recorded(settings_of(parameters))
        self.feedback = feedback_of(parameters)
        # Features are in the rows: a table of all users that ever come would grow with time.
        self.users, self.items = FeatureTable({}), FeatureTable({})

    def stretches(
        self, *, num_rows: int = 0, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows, oldest first."""
        left = min(num_rows or self._num_rows, self._num_rows)
        for rows in self._frames(self._num_rows):
            if from_ms is not None:
                rows = rows.filter(pl.col("ts") >= from_ms)  # noqa: PLW2901
            ends = to_ms is not None and bool((rows["ts"] >= to_ms).any())
            if ends:
                rows = rows.filter(pl.col("ts") < to_ms)  # noqa: PLW2901
            rows = rows.head(left)  # noqa: PLW2901
            if len(rows):
                yield rows
            left -= len(rows)
            if ends or not left:
                return

    def _frames(self, left: int) -> Iterator[pl.DataFrame]:
        world, rows = World(self.parameters, self._seed), Rows(self.parameters)
        waiting: list[Impressions] = []
        while left > 0:
            waiting.append(show_unranked(world, world.step()))
            number = sum(map(len, waiting))
            if number >= min(left, ROWS):
                yield rows.frame(joined(waiting)).head(left)
                waiting, left = [], left - number

    def span(self) -> tuple[int, int, int]:
        """Rows of the whole log, event time of the first and, about, of the last, ms."""
        users, begin_ms = self.parameters.users, self.parameters.begin_ms
        a_day = users.number * users.visits_per_day * self.parameters.lists.size
        return self._num_rows, begin_ms, begin_ms + round(self._num_rows / a_day * 86_400_000)
