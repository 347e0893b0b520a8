"""A log as replay sees it: rows in the order of time, and the tables of users and items that they refer to.

A row is an impression, or feedback to an earlier one, or both at once (a rating is an impression and what came of it).
Whatever a data set looks like, a mapping file makes it this (`simulators/logs/mapping.py`).
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from stream.events import RawFeature

ROWS = 1 << 20
"""Rows of a stretch of a log, and so what replay holds of it at a time."""

ROW_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "ts": pl.Int64, "imp_id": pl.String, "shown": pl.Boolean}
"""Columns that every stretch has. `ts` is event time in UTC milliseconds and never falls. `imp_id` is unique among the
rows that are `shown`, which are impressions; the others are feedback to an impression before them, by its `imp_id`.

Further columns, where a log has them:

* `domain`, `stage` (String), `position` (Int64), `propensity` (Float64), `served_probability` (Float64),
  `served_version` (Int64): the reserved keys of an impression;
* `feature.<name>`: a feature of the row itself, as it was when the item was shown;
* for the k-th rule of `feedback`, from 0: `feedback.<k>` (Boolean), whether the row is feedback by that rule;
  `value.<k>` (Float64), its value; `ts.<k>` (Int64), when it came, unless the rule has a delay to be drawn.
"""


class Delay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long after its impression feedback comes, where a log does not say: log-normal."""

    median_s: Annotated[float, Meta(gt=0, le=315_360_000)]
    """Seconds of event time."""
    sigma: Annotated[float, Meta(ge=0, le=20)]
    """Standard deviation of the delay's logarithm."""


class FeedbackRule(msgspec.Struct, frozen=True):
    """What the k-th feedback columns of a stretch mean."""

    action: str
    delay: Delay | None = None
    """To be drawn for each; None: the rows have the time."""


class FeatureTable:
    """Features of users or items, by id, as of a time where the table is dated.

    Args:
        values: id -> features.
        dated: id -> (times in ms, ascending; features from each of them on); None where nothing is dated.
    """

    def __init__(
        self,
        values: Mapping[str, dict[str, RawFeature]],
        dated: Mapping[str, tuple[list[int], list[dict[str, RawFeature]]]] | None = None,
    ) -> None:
        self._values = values
        self._dated = dated

    def __len__(self) -> int:
        return len(self._values if self._dated is None else self._dated)

    def all(self) -> Iterator[Mapping[str, RawFeature]]:
        """Features of every id, as of every time."""
        if self._dated is None:
            yield from self._values.values()
        else:
            for _, features in self._dated.values():
                yield from features

    @property
    def is_dated(self) -> bool:
        """Whether what is known of an id changes with time."""
        return self._dated is not None

    def get(self, key: str, ts: int) -> Mapping[str, RawFeature]:
        """Features of an id as of a time; none for one that the table lacks, or does not know yet.

        >>> FeatureTable({}, {"u": ([5, 9], [{"age": "1"}, {"age": "2"}])}).get("u", 8)
        {'age': '1'}
        """
        if self._dated is None:
            return self._values.get(key, {})
        times, features = self._dated.get(key, ([], []))
        at = bisect_right(times, ts)
        return features[at - 1] if at else {}


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a log says of the pipeline's settings, and what follows from its being one.

    One server stamped a recorded log, so every event of it moves event time; and time does not go on by the wall clock
    where the replay pauses. What the log itself says goes before that.
    """
    join, worker = settings.get("join", {}), settings.get("worker", {})
    return {**settings, "join": {"time_users": 1, **join}, "worker": {"idle_after_ms": 0, **worker}}


class Log(ABC):
    """A log, ready to replay; it can be read any number of times."""

    name: str
    """As `--log` has it."""
    source: str
    """Where its files were found."""
    licence: str
    settings: Mapping[str, Any]
    """What it says of the pipeline's settings: fields, actions, tasks; whatever a person sets goes before it."""
    feedback: tuple[FeedbackRule, ...]
    users: FeatureTable
    items: FeatureTable

    @abstractmethod
    def stretches(
        self, *, num_rows: int = 0, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows, oldest first, ROWS at a time (the last stretch may be shorter), in constant memory.

        Args:
            num_rows: the first so many of those in the span; 0: all.
            from_ms: event time of the first, inclusive; None: the log's beginning.
            to_ms: event time at which it ends, exclusive; None: the log's end.
        """

    @abstractmethod
    def span(self) -> tuple[int, int, int]:
        """Rows of the whole log, event time of the first and of the last, ms."""


class FrameLog(Log):
    """A log that is in memory as a whole.

    Args:
        name: as `--log` has it.
        rows: in the form of `ROW_SCHEMA`, by time.
        feedback: what its feedback columns mean.
        users: features by user.
        items: features by item.
        source: where it came from.
        licence: of the data.
        settings: what it says of the pipeline's settings.
    """

    def __init__(
        self,
        name: str,
        rows: pl.DataFrame,
        feedback: tuple[FeedbackRule, ...],
        users: FeatureTable,
        items: FeatureTable,
        *,
        source: str,
        licence: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.rows, self.feedback, self.users, self.items = name, rows, feedback, users, items
        self.source, self.licence, self.settings = source, licence, recorded(settings or {})

    def stretches(
        self, *, num_rows: int = 0, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows, oldest first."""
        ts = self.rows["ts"]
        start = 0 if from_ms is None else int(ts.search_sorted(from_ms, side="left"))
        end = len(ts) if to_ms is None else int(ts.search_sorted(to_ms, side="left"))
        end = min(end, start + num_rows) if num_rows else end
        for at in range(start, end, ROWS):
            yield self.rows[at : min(at + ROWS, end)]

    def span(self) -> tuple[int, int, int]:
        """Rows of the whole log, event time of the first and of the last, ms."""
        ts = self.rows["ts"]
        return (len(ts), int(ts[0]), int(ts[-1])) if len(ts) else (0, 0, 0)
