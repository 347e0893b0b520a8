"""What the page and the report show, as plain data."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from learner.parts import weight_names
from stream.arms.settings import LIVE
from stream.monitor.figures.bucket import ADAPTER, AGE, COUNT, NEW, NORMS, NULL, SEEN, Bucket, merge
from stream.monitor.figures.cohorts import CohortScheme
from stream.monitor.figures.fading import Fading
from stream.monitor.figures.freshness import age_quantile
from stream.monitor.figures.intervals import calibration, figures, mean_loss, wilson
from stream.monitor.history.history import COHORTS, TWIN
from stream.monitor.page.points import (
    MAX_POINTS,
    METRICS,
    Grown,
    Point,
    PointKey,
    groups,
    kept,
    key_of,
    point_of,
    rounded,
    window,
)
from stream.monitor.page.served import ServedView
from stream.monitor.served.table import GroupNames
from stream.settings import Settings

_MAX_DAYS = 14
_IN_SERIES = ("samples", *METRICS, "user_norm")
_MAX_POINTS_KEPT = 4 * MAX_POINTS
_MAX_RUNS_KEPT = 8
_HOUR_MS = 3_600_000


class _Faded(msgspec.Struct, frozen=True):
    """Faded sums: each cohort by its own samples, and all of them by theirs."""

    by_cohort: Fading
    overall: Fading

    def update(self, bucket: Bucket) -> None:
        self.by_cohort.update(bucket)
        self.overall.update(bucket)


class View:
    """Turns buckets into what is shown.

    Args:
        settings: effective settings; cohorts and field names come from them.
        has_weights: whether the buckets have weights by state, as those of the main task have.
    """

    def __init__(self, settings: Settings, *, has_weights: bool = True) -> None:
        self._settings = settings
        self.scheme = CohortScheme(settings.monitor)
        self._fields = [field.name for field in settings.fields]
        self._weights = weight_names(settings.recipe) if has_weights else []
        self._names = [("all", "all"), *((c.dimension, c.name) for c in self.scheme.cohorts)]
        self._users = slice(0, self.scheme.num_users)
        names = GroupNames(self._names[1:], [LIVE, *(arm.name for arm in settings.serving.arms)])
        self._served = ServedView(names, self.table, settings.monitor.window_s)
        self._points: OrderedDict[PointKey, Point] = OrderedDict()
        self._twin_points: OrderedDict[PointKey, dict[str, Any]] = OrderedDict()
        self._wholes: OrderedDict[tuple[str, int], Grown[Bucket]] = OrderedDict()
        self._faded: OrderedDict[int, Grown[_Faded]] = OrderedDict()

    def fits(self, bucket: Bucket, *, num_weights: int | None = None) -> bool:
        """Whether a bucket has today's cohorts, fields and weights: those of a run with others do not fit beside it.

        Args:
            bucket: the bucket.
            num_weights: of the series that it is of; default: the learner's.
        """
        columns = len(self.scheme), ADAPTER + (len(self._weights) if num_weights is None else num_weights)
        features = len(self._fields) + NORMS
        return not bucket.is_former and bucket.sums_CM.shape == columns and len(bucket.features_GA) == features

    # Figures of one bucket ------------------------------------------------------------------------------------------

    def cohort(self, bucket: Bucket, number: int) -> dict[str, Any]:
        """Figures of one cohort."""
        return figures(bucket.histogram_2C2K[:, number], bucket.sums_CM[number], bucket.replicates_CR5[number])

    def overall(self, bucket: Bucket) -> dict[str, Any]:
        """Figures of all samples: the sum over the user cohorts, of which each sample is in one."""
        of = self._users
        return figures(bucket.histogram_2C2K[:, of].sum(1), bucket.sums_CM[of].sum(0), bucket.replicates_CR5[of].sum(0))

    def table(self, bucket: Bucket, overall: Bucket | None = None) -> list[dict[str, Any]]:
        """One row per cohort, the overall figures first.

        Args:
            bucket: the figures of the cohorts.
            overall: those of all samples, where they are not the cohorts' sum.
        """
        rows = [self.overall(overall or bucket), *(self.cohort(bucket, n) for n in range(len(self.scheme)))]
        named = zip(self._names, rows, strict=True)
        return [{"dimension": dimension, "cohort": cohort, **row} for (dimension, cohort), row in named]

    # Over time ------------------------------------------------------------------------------------------------------

    def series(self, buckets: Sequence[Bucket], *, fading: bool = False) -> dict[str, Any]:
        """Each cohort's metrics over time, with intervals.

        Args:
            buckets: oldest first.
            fading: whether a point stands for all that came before it, faded, or for its own stretch of time.
        """
        grouped = groups(buckets)
        points = self._faded_points(grouped) if fading else [self._point_of(group) for group in grouped]
        return {
            "end_ms": [point.end_ms for point in points],
            "last_ts": [point.last_ts for point in points],
            "version": [point.version for point in points],
            "alarms": [{"end_ms": b.end_ms, "said": said} for b in buckets for said in b.alarms],
            "lines": [
                {
                    "dimension": dimension,
                    "cohort": name,
                    **{figure: [point.rows[at][figure] for point in points] for figure in _IN_SERIES},
                }
                for at, (dimension, name) in enumerate(self._names)
            ],
        }

    def _point_of(self, group: Sequence[Bucket]) -> Point:
        def make() -> Point:
            return point_of(group[-1], self.table(merge(group)))

        return kept(self._points, key_of(group), make, _MAX_POINTS_KEPT)

    def _faded_points(self, grouped: Sequence[Sequence[Bucket]]) -> list[Point]:
        """A point as of the end of each group of buckets."""
        faded, points = self._new_faded(grouped[0][0]), []
        for group in grouped:
            for bucket in group:
                faded.update(bucket)
            points.append(point_of(group[-1], self._faded_table(faded)))
        return points

    def _new_faded(self, like: Bucket) -> _Faded:
        half_life = self._settings.monitor.half_life
        return _Faded(Fading(like, half_life), Fading(like, half_life, self._users))

    def _faded_table(self, faded: _Faded) -> list[dict[str, Any]]:
        return self.table(faded.by_cohort.compute(), faded.overall.compute())

    # What is kept for the next time -----------------------------------------------------------------------------------

    def _whole(self, series: str, buckets: Sequence[Bucket]) -> Bucket:
        """The sum of a run's buckets of one series."""
        run = series, buckets[0].start_ms
        return kept(self._wholes, run, lambda: Grown(Bucket.empty_like, Bucket.add), _MAX_RUNS_KEPT).over(buckets)

    def _faded_now(self, buckets: Sequence[Bucket]) -> list[dict[str, Any]]:
        """The faded table of a run as of its newest bucket."""
        run = buckets[0].start_ms
        faded = kept(self._faded, run, lambda: Grown(self._new_faded, _Faded.update), _MAX_RUNS_KEPT)
        return self._faded_table(faded.over(buckets))

    # From cold to warm ----------------------------------------------------------------------------------------------

    def nth_curve(self, bucket: Bucket) -> dict[str, Any]:
        """Log-loss and calibration at a user's n-th impression, with intervals."""
        return {
            "samples": bucket.nth_NM[:, COUNT].tolist(),
            "log_loss": [rounded(mean_loss(sums_M)) for sums_M in bucket.nth_NM],
            "calibration": [rounded(calibration(sums_M)) for sums_M in bucket.nth_NM],
        }

    def arrivals(self, bucket: Bucket) -> list[dict[str, Any]]:
        """For the newest arrival days: log-loss in each user cohort that those users have passed."""
        rows = []
        for day in sorted(bucket.arrivals)[-_MAX_DAYS:]:
            sums = bucket.arrivals[day]
            losses = [mean_loss(sums_M).value for sums_M in sums]
            rows.append({"day": day, "samples": sums[:, COUNT].tolist(), "log_loss": losses})
        return rows

    # Freshness, and the twin ----------------------------------------------------------------------------------------

    def freshness(self, bucket: Bucket) -> list[dict[str, Any]]:
        """Per feature: share of samples without it, share of its values that are new, and its age at use."""
        names = [*self._fields, "user norm", "item norm"]
        assert len(names) == len(self._fields) + NORMS
        rows = []
        for name, counts_A in zip(names, bucket.features_GA, strict=True):
            ages_A, uses = counts_A[AGE:], counts_A[NEW] + counts_A[AGE:].sum()
            rows.append(
                {
                    "feature": name,
                    "null": wilson(float(counts_A[NULL]), float(counts_A[SEEN])),
                    "new": float(counts_A[NEW] / uses) if uses and name in self._fields else None,
                    "age_p50_s": age_quantile(ages_A, 0.5),
                    "age_p99_s": age_quantile(ages_A, 0.99),
                }
            )
        return rows

    def twin(self, buckets: Sequence[Bucket]) -> dict[str, Any] | None:
        """The live model beside frozen weights, on the same impressions; None if there is nothing of it."""
        buckets = [bucket for bucket in buckets if self.fits(bucket, num_weights=0)]
        if not any(bucket.num_samples for bucket in buckets):
            return None
        whole, recent = self._whole(TWIN, buckets), merge(window(buckets, self._settings.monitor.window_s))
        points = [self._twin_point_of(group) for group in groups(buckets)]
        return {
            "whole": self.table(whole),
            "now": self.table(recent),
            "unscored": whole.unscored,
            "age_h": self._age_h(whole),
            "age_now_h": self._age_h(recent),
            "series": {name: [point[name] for point in points] for name in ("end_ms", "last_ts", "age_h", "benefit")},
        }

    def _twin_point_of(self, group: Sequence[Bucket]) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            point = merge(group)
            benefit = rounded(self.overall(point)["benefit"])
            return {"end_ms": point.end_ms, "last_ts": point.last_ts, "age_h": self._age_h(point), "benefit": benefit}

        return kept(self._twin_points, key_of(group), make, _MAX_POINTS_KEPT)

    def _age_h(self, bucket: Bucket) -> float | None:
        count = bucket.num_samples
        return bucket.age_ms / count / _HOUR_MS if count else None

    # Everything -----------------------------------------------------------------------------------------------------

    def show(
        self,
        buckets: Sequence[Bucket],
        twin: Sequence[Bucket] = (),
        served: Sequence[Bucket] = (),
        *,
        fading: bool = False,
    ) -> dict[str, Any]:
        """Everything about one run.

        Args:
            buckets: of the learner, oldest first.
            twin: of the frozen twin.
            served: of what scorers served.
            fading: whether the series are faded.
        """
        monitor = self._settings.monitor
        buckets = [bucket for bucket in buckets if self.fits(bucket)]
        shown: dict[str, Any] = {
            "weights": self._weights,
            "cohorts": [cohort.name for cohort in self.scheme.cohorts if cohort.dimension == "user"],
            "window_s": monitor.window_s,
            "half_life": monitor.half_life,
            "twin": self.twin(twin),
            "served": self._served.show([bucket for bucket in served if self.fits(bucket, num_weights=0)]),
        }
        if not buckets:
            return {**shown, "series": None, "now": [], "faded": [], "whole": [], "nth": None, "arrivals": []}
        whole, recent = self._whole(COHORTS, buckets), merge(window(buckets, monitor.window_s))
        return {
            **shown,
            "series": self.series(buckets, fading=fading),
            "now": self.table(recent),
            "faded": self._faded_now(buckets),
            "whole": self.table(whole),
            "nth": self.nth_curve(whole),
            "arrivals": self.arrivals(whole),
            "freshness": self.freshness(recent),
            "late_labels": whole.late_labels,
            "unscored": whole.unscored,
        }


def to_json(value: Any) -> bytes:
    """Plain data and estimates as JSON."""
    return msgspec.json.encode(value)
