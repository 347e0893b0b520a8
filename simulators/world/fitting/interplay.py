"""How much of taste lies in attributes, as far as a log can say: from pairs of impressions.

What is left of a label without its user's and its item's mean is taste and chance. Two impressions whose user shares an
attribute with that of the other, and whose items are one, share `user share` of the variance of taste; of one user, and
items that share an attribute, `item share`; of users and items that share attributes only, the product of both.
"""

from collections.abc import Sequence

import msgspec
import polars as pl

_LEAST = 1e-5
"""A covariance below this is none."""


class Interplay(msgspec.Struct, frozen=True):
    """Taste, on the scale of the label."""

    user_share: float | None
    """Share of taste's variance that lies in the users' attributes; None where it cannot be told."""
    item_share: float | None
    variance: float | None
    """Of taste."""


class _Pairs(msgspec.Struct, frozen=True):
    products: float
    number: float

    def less(self, *others: "_Pairs") -> "_Pairs":
        return _Pairs(
            self.products - sum(other.products for other in others), self.number - sum(other.number for other in others)
        )

    @property
    def mean(self) -> float:
        return self.products / self.number if self.number > 0 else 0.0


def interplay(rows: pl.DataFrame, of_user: Sequence[str], of_item: Sequence[str]) -> Interplay:
    """Estimate.

    Args:
        rows: impressions: `user_id`, `item_id`, `label`, and the attributes.
        of_user: attributes of users, taken for independent.
        of_item: of items.
    """
    left = pl.col("label").cast(pl.Float64)
    left = left - left.mean().over("user_id") - left.mean().over("item_id") + left.mean()
    known = rows.with_columns(left=left)
    # A user who sees an item again is no other pair.
    same = _within(known, "user_id", "item_id")
    user, item = _within(known, "user_id").less(same), _within(known, "item_id").less(same)
    by_user = [_within(known, name, "item_id").less(same) for name in of_user]
    by_item = [_within(known, "user_id", name).less(same) for name in of_item]
    # Pairs of one item whatever its users say what taking the means off has done to all of them.
    users = sum(pairs.mean - item.less(pairs).mean for pairs in by_user)
    items = sum(pairs.mean - user.less(pairs).mean for pairs in by_item)
    both = sum(
        _within(known, a, b).less(by_user[n], by_item[m], same).mean
        for n, a in enumerate(of_user)
        for m, b in enumerate(of_item)
    )
    if min(users, items, both) < _LEAST:
        return Interplay(None, None, None)
    return Interplay(min(1.0, both / items), min(1.0, both / users), users * items / both)


def _within(known: pl.DataFrame, *cell: str) -> _Pairs:
    """Products of all pairs in the same cell, an impression not with itself."""
    cells = known.group_by(*cell).agg(pl.len(), sum=pl.col("left").sum(), squares=(pl.col("left") ** 2).sum())
    size = pl.col("len").cast(pl.Float64)
    found = cells.select((pl.col("sum") ** 2 - pl.col("squares")).sum(), number=(size * (size - 1)).sum())
    return _Pairs(*found.row(0))
