"""What the page and the report show, as plain data."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from stream.monitor.bucket import ADAPTER, Bucket, merge
from stream.monitor.cohorts import CohortScheme
from stream.monitor.figures import figures
from stream.settings import Settings

_MAX_POINTS = 100
_MAX_DAYS = 14
_METRICS = ("auc", "ne", "calibration", "log_loss", "rate")


def window(buckets: Sequence[Bucket], seconds: float) -> list[Bucket]:
    """The buckets that end within so many seconds of the newest one's end."""
    since = buckets[-1].end_ms - seconds * 1000 if buckets else 0
    return [bucket for bucket in buckets if bucket.end_ms > since]


def thinned(buckets: Sequence[Bucket], points: int = _MAX_POINTS) -> list[Bucket]:
    """Neighbours merged until there are no more than so many."""
    size = -(-len(buckets) // points) if buckets else 1
    return [merge(list(buckets[at : at + size])) for at in range(0, len(buckets), size)]


class View:
    """Turns buckets into what is shown.

    Args:
        settings: effective settings; cohorts and field names come from them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.scheme = CohortScheme(settings.monitor)
        self._fields = [field.name for field in settings.fields]

    def fits(self, bucket: Bucket) -> bool:
        """Whether a bucket has today's cohorts and fields; those of a run with others cannot be laid beside it."""
        return bucket.sums_CM.shape == (len(self.scheme), ADAPTER + len(self._fields))

    def cohort(self, bucket: Bucket, number: int) -> dict[str, Any]:
        """Figures of one cohort."""
        return figures(bucket.histogram_2C2K[:, number], bucket.sums_CM[number])

    def overall(self, bucket: Bucket) -> dict[str, Any]:
        """Figures of all samples: the sum over the user cohorts, of which each sample is in one."""
        users = slice(0, self.scheme.num_users)
        found = figures(bucket.histogram_2C2K[:, users].sum(1), bucket.sums_CM[users].sum(0))
        found["uauc"] = bucket.uauc[0] / bucket.uauc[1] if bucket.uauc[1] else None
        return found

    def table(self, bucket: Bucket) -> list[dict[str, Any]]:
        """One row per cohort, the overall figures first."""
        rows = [{"dimension": "all", "cohort": "all", **self.overall(bucket)}]
        for number, cohort in enumerate(self.scheme.cohorts):
            rows.append({"dimension": cohort.dimension, "cohort": cohort.name, **self.cohort(bucket, number)})
        return rows

    def series(self, buckets: Sequence[Bucket]) -> dict[str, Any]:
        """Each cohort's metrics over time, with intervals."""
        points = thinned(buckets)
        lines: list[dict[str, Any]] = []
        names = [("all", "all"), *((c.dimension, c.name) for c in self.scheme.cohorts)]
        tables = [self.table(point) for point in points]
        for at, (dimension, name) in enumerate(names):
            line: dict[str, Any] = {"dimension": dimension, "cohort": name}
            line["samples"] = [table[at]["samples"] for table in tables]
            for metric in _METRICS:
                found = [table[at][metric] for table in tables]
                line[metric] = [[e.value, e.low, e.high] for e in found]
            line["user_norm"] = [table[at].get("user_norm") for table in tables]
            line["unseen_users"] = [table[at].get("unseen_users") for table in tables]
            lines.append(line)
        return {
            "end_ms": [point.end_ms for point in points],
            "last_ts": [point.last_ts for point in points],
            "version": [point.version for point in points],
            "alarms": [{"end_ms": b.end_ms, "said": said} for b in buckets for said in b.alarms],
            "lines": lines,
        }

    def nth_curve(self, bucket: Bucket) -> dict[str, Any]:
        """Log-loss and calibration at a user's n-th impression."""
        count, weight, positives, predicted, loss = bucket.nth_NM.T
        with np.errstate(divide="ignore", invalid="ignore"):
            curves = {"log_loss": loss / weight, "calibration": predicted / positives, "rate": positives / weight}
        shown = {name: [float(v) if np.isfinite(v) else None for v in values] for name, values in curves.items()}
        return {"samples": count.tolist(), **shown}

    def arrivals(self, bucket: Bucket) -> list[dict[str, Any]]:
        """For the newest arrival days: log-loss in each user cohort that those users have passed."""
        rows = []
        for day in sorted(bucket.arrivals)[-_MAX_DAYS:]:
            weight, loss = bucket.arrivals[day][:, 1], bucket.arrivals[day][:, 4]
            losses = [float(x / w) if w > 0 else None for x, w in zip(loss, weight, strict=True)]
            rows.append({"day": day, "samples": bucket.arrivals[day][:, 0].tolist(), "log_loss": losses})
        return rows

    def show(self, buckets: Sequence[Bucket]) -> dict[str, Any]:
        """Everything about one run."""
        buckets = [bucket for bucket in buckets if self.fits(bucket)]
        if not buckets:
            return {"series": None, "now": [], "whole": [], "nth": None, "arrivals": [], "fields": self._fields}
        whole = merge(list(buckets))
        return {
            "series": self.series(buckets),
            "now": self.table(merge(window(buckets, self._settings.monitor.window_s))),
            "whole": self.table(whole),
            "nth": self.nth_curve(whole),
            "arrivals": self.arrivals(whole),
            "cohorts": [cohort.name for cohort in self.scheme.cohorts if cohort.dimension == "user"],
            "fields": self._fields,
            "late_labels": whole.late_labels,
        }


def to_json(value: Any) -> bytes:
    """Plain data and estimates as JSON."""
    return msgspec.json.encode(value)
