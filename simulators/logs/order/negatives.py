"""Impressions without feedback for a log of positives: drawn among the items seen so far, by a seed."""

from collections.abc import Sequence
from random import Random

import polars as pl

from simulators.logs.mapping import FieldEntry, Negatives

_MAX_TRIES = 32
"""Draws for one negative; a user that has had nearly everything gets fewer."""
_RECENT = 1 << 22
"""Interactions that `popularity` draws from: so many as came last."""


class NegativeSampler:
    """Puts negatives beside each impression, in a drawn order, so that the place of the positive says nothing.

    An item is drawn only if it came before, and if its user has not had it so far. One Python step for each draw, about
    a microsecond. It remembers every item, the latest interactions, and every user's items: memory grows with the
    distinct pairs of user and item, by some 70 bytes each.

    Args:
        settings: how many, and how they are drawn.
        fields: those of the rows; what they say of the item is not known of another.
        seed: the same draws for the same seed, however the log is cut into stretches.
    """

    def __init__(self, settings: Negatives, fields: Sequence[FieldEntry], seed: int) -> None:
        self._settings = settings
        self._item_features = [f"feature.{field.name}" for field in fields if field.group == "item"]
        self._random = Random(seed)
        self._had: dict[str, set[str]] = {}
        self._items: dict[str, None] = {}
        self._pool: list[str] = []
        self._num_interactions = 0
        self.num_missing = 0

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A stretch with its negatives; rows that are no impressions stay as they are."""
        at: list[int] = []
        items: list[str] = []
        columns = (rows[name].to_list() for name in ("user_id", "item_id", "shown"))
        for n, (user, item, shown) in enumerate(zip(*columns, strict=True)):
            if shown:
                drawn = self._draw(user, item)
                at += [n] * len(drawn)
                items += drawn
        places = [self._random.random() for _ in range(len(rows) + len(at))]
        own = rows.with_columns(at=pl.int_range(pl.len(), dtype=pl.Int64), place=pl.Series(places[: len(rows)]))
        drawn_rows = self._negatives(rows, at, items).with_columns(
            at=pl.Series(at, dtype=pl.Int64), place=pl.Series(places[len(rows) :], dtype=pl.Float64)
        )
        return pl.concat([own, drawn_rows]).sort("at", "place").drop("at", "place")

    def _draw(self, user: str, item: str) -> list[str]:
        """Negatives for one positive, which is remembered."""
        had = self._had.setdefault(user, set())
        had.add(item)
        drawn: list[str] = []
        for _ in range(self._settings.per_positive):
            for _ in range(_MAX_TRIES if self._pool else 0):
                candidate = self._pool[int(self._random.random() * len(self._pool))]
                if candidate not in had and candidate not in drawn:
                    drawn.append(candidate)
                    break
        self.num_missing += self._settings.per_positive - len(drawn)
        self._remember(item)
        return drawn

    def _remember(self, item: str) -> None:
        is_new = item not in self._items
        self._items[item] = None
        if self._settings.sampling == "uniform":
            if is_new:
                self._pool.append(item)
        elif len(self._pool) < _RECENT:
            self._pool.append(item)
        else:
            self._pool[self._num_interactions % _RECENT] = item
        self._num_interactions += 1

    def _negatives(self, rows: pl.DataFrame, at: list[int], items: list[str]) -> pl.DataFrame:
        """The positives' rows with other items, and nothing that came of them."""
        changes = [pl.Series("item_id", items, pl.String)]
        negatives = rows[at].with_columns(changes)
        numbers = pl.int_range(pl.len()).over(pl.Series(at, dtype=pl.Int64)) if at else pl.lit(0)
        none = [name for name in rows.columns if name.startswith(("value.", "ts."))]
        return negatives.with_columns(
            (pl.col("imp_id") + "-n" + numbers.cast(pl.String)).alias("imp_id"),
            *(pl.lit(False).alias(name) for name in rows.columns if name.startswith("feedback.")),
            *(pl.lit(None, rows.schema[name]).alias(name) for name in [*none, *self._item_features]),
        )
