"""Feedback without impression id -> the latest impression of its user and item before it."""

from collections.abc import Sequence

import polars as pl

from simulators.logs.mapping import FeedbackEntry

_PAIR = ["user_id", "item_id"]


class Attribution:
    """Gives feedback the id of its impression. It remembers the last impression of each user and item for as long as
    feedback may come, `within_s`: memory is bounded by the impressions of such a time, not by the log.

    Args:
        feedback: the mapping's.
    """

    def __init__(self, feedback: Sequence[FeedbackEntry]) -> None:
        self._within_ms = [1000 * entry.within_s for entry in feedback]
        self._horizon_ms = max(self._within_ms, default=0)
        self._known: pl.DataFrame | None = None
        self._num_compact = 0
        self.num_lost = 0

    def attribute(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A stretch with every feedback's `imp_id`; what has no impression is left out."""
        if not len(rows):
            return rows
        shown = rows.filter("shown").select(*_PAIR, "ts", "imp_id")
        known = shown if self._known is None else pl.concat([self._known, shown])
        wanting = pl.col("imp_id").is_null()
        if rows["imp_id"].null_count():
            rows = rows.with_row_index("at")
            found = self._find(rows.filter(wanting), known)
            self.num_lost += found["imp_id"].null_count()
            rows = pl.concat([rows.filter(~wanting), found.filter(~wanting)]).sort("at").drop("at")
        self._known = known
        if len(known) > 2 * self._num_compact:
            self._forget(known, int(rows["ts"][-1]) if len(rows) else 0)
        return rows

    def _forget(self, known: pl.DataFrame, now: int) -> None:
        """Drop what is too old, or not the last of its user and item; each time that they have doubled."""
        fresh = known.filter(pl.col("ts") >= now - self._horizon_ms)
        self._known = fresh.unique(_PAIR, keep="last", maintain_order=True)
        self._num_compact = len(self._known)

    def _find(self, feedback: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        shown = known.rename({"ts": "shown_ts", "imp_id": "found"}).with_columns(ts="shown_ts")
        joined = feedback.join_asof(shown, on="ts", by=_PAIR, strategy="backward", check_sortedness=False)
        allowed = pl.min_horizontal(
            pl.when(pl.col(f"feedback.{k}")).then(pl.lit(within)) for k, within in enumerate(self._within_ms)
        )
        is_near = pl.col("ts") - pl.col("shown_ts") <= allowed
        return joined.with_columns(imp_id=pl.when(is_near).then("found")).select(feedback.columns)
