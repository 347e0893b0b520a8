"""What scorers served, as it is shown: by cohort, arm, canary and version, and how far it is off over time."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from stream.monitor.figures.bucket import Bucket, merge
from stream.monitor.figures.groups import EVERYTHING
from stream.monitor.page.points import MAX_POINTS, Grown, PointKey, groups, kept, key_of, rounded, window
from stream.monitor.served.table import GroupNames, served_figures, served_table

_MAX_POINTS_KEPT = 4 * MAX_POINTS
_MAX_RUNS_KEPT = 8
_OF_USERS = ("uauc",)
"""Figures that cohorts have, and other groups have not."""
_IN_SERIES = ("skew", "skew_abs", "skew_p99")
_ESTIMATES = ("benefit", "log_loss", "calibration")

Rows = list[dict[str, Any]]


class ServedView:
    """Turns buckets of what was served into what is shown.

    Args:
        names: of the groups.
        table: rows of a bucket by cohort.
        window_s: length of the window that "now" means.
    """

    def __init__(self, names: GroupNames, table: Callable[[Bucket], Rows], window_s: float) -> None:
        self._names, self._table, self._window_s = names, table, window_s
        self._points: OrderedDict[PointKey, dict[str, Any]] = OrderedDict()
        self._wholes: OrderedDict[int, Grown[Bucket]] = OrderedDict()

    def show(self, buckets: Sequence[Bucket]) -> dict[str, Any] | None:
        """Everything about one run; None if nothing was served.

        Args:
            buckets: those that fit, oldest first.
        """
        if not any(bucket.groups for bucket in buckets):
            return None
        run = buckets[0].start_ms
        whole = kept(self._wholes, run, lambda: Grown(Bucket.empty_like, Bucket.add), _MAX_RUNS_KEPT).over(buckets)
        points = [self._point_of(group) for group in groups(buckets)]
        return {
            "whole": self._rows(whole),
            "now": self._rows(merge(window(buckets, self._window_s))),
            "series": {name: [point[name] for point in points] for name in points[0]},
            "alarms": [{"end_ms": bucket.end_ms, "said": said} for bucket in buckets for said in bucket.alarms],
        }

    def _rows(self, bucket: Bucket) -> Rows:
        of_users = {
            (row["dimension"], row["cohort"]): {name: row[name] for name in _OF_USERS} for row in self._table(bucket)
        }
        rows = served_table(bucket.groups, self._names)
        return [{**row, **of_users.get((row["dimension"], row["cohort"]), {})} for row in rows]

    def _point_of(self, group: Sequence[Bucket]) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            bucket = merge(group)
            times = {"end_ms": bucket.end_ms, "last_ts": bucket.last_ts, "version": bucket.version}
            sums_X = bucket.groups.of(EVERYTHING).get(0)
            if sums_X is None:
                return times | dict.fromkeys(_IN_SERIES) | dict.fromkeys(_ESTIMATES, [None] * 3)
            found = served_figures(sums_X)
            values = {name: None if found[name] is None else round(found[name], 7) for name in _IN_SERIES}
            return times | values | {name: rounded(found[name]) for name in _ESTIMATES}

        return kept(self._points, key_of(group), make, _MAX_POINTS_KEPT)
