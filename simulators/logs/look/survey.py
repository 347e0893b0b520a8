"""What a log holds: its first events, label rates, long tail, share of cold users; summed up stretch by stretch."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from simulators.logs.log import FeatureTable, FeedbackRule, Log
from stream.events import PLACES, Event, Feedback, Impression, RawFeature, Served

COLD = 10
"""Users with fewer impressions so far are cold."""
TOP_SHARE = 0.05
"""The long tail is told by what this share of the users, or items, have of the impressions."""
_RESERVED = (*PLACES, "propensity")


class Survey:
    """Sums up a log. It remembers a count for each user and item, and nothing else that grows.

    Args:
        feedback: what the feedback columns mean.
    """

    def __init__(self, feedback: Sequence[FeedbackRule]) -> None:
        self._feedback = feedback
        self._counts = {
            name: pl.DataFrame(schema={name: pl.String, "len": pl.UInt32}) for name in ("user_id", "item_id")
        }
        self._labels = [0] * len(feedback)
        self._num_impressions = self._num_cold = self._num_rows = 0
        self._span: tuple[int, int] | None = None

    def update(self, rows: pl.DataFrame) -> None:
        """Add a stretch; they are to come by time."""
        self._num_rows += len(rows)
        first, last = int(rows["ts"][0]), int(rows["ts"][-1])
        self._span = (first if self._span is None else self._span[0], last)
        for k in range(len(self._feedback)):
            self._labels[k] += int(rows[f"feedback.{k}"].sum())
        shown = rows.filter("shown").select("user_id", "item_id")
        self._num_impressions += len(shown)
        earlier = shown.join(self._counts["user_id"], on="user_id", how="left", maintain_order="left")
        so_far = pl.col("len").fill_null(0) + pl.int_range(pl.len()).over("user_id")
        self._num_cold += int(earlier.select((so_far < COLD).sum()).item())
        for name, counts in self._counts.items():
            more = shown.group_by(name).len()
            self._counts[name] = pl.concat([counts, more]).group_by(name).agg(pl.col("len").sum())

    def compute(self) -> dict[str, Any]:
        """Figures; shares and rates are of the impressions, None where there are none."""
        first, last = self._span or (0, 0)
        shown = self._num_impressions
        return {
            "rows": self._num_rows,
            "impressions": shown,
            "users": len(self._counts["user_id"]),
            "items": len(self._counts["item_id"]),
            "first_ts": first,
            "last_ts": last,
            "days": round((last - first) / 86_400_000, 2),
            "feedback": {
                f"{k}:{rule.action}" if self._is_twice(rule.action) else rule.action: {
                    "count": self._labels[k],
                    "rate": self._labels[k] / shown if shown else None,
                }
                for k, rule in enumerate(self._feedback)
            },
            "share_of_top_users": self._top("user_id"),
            "share_of_top_items": self._top("item_id"),
            "share_of_cold_impressions": self._num_cold / shown if shown else None,
        }

    def _is_twice(self, action: str) -> bool:
        return sum(rule.action == action for rule in self._feedback) > 1

    def _top(self, name: str) -> float | None:
        counts = self._counts[name]["len"].sort(descending=True)
        if not len(counts):
            return None
        return int(counts[: max(1, round(len(counts) * TOP_SHARE))].sum()) / int(counts.sum())


def first_events(log: Log, num_rows: int) -> list[dict[str, Any]]:
    """What the first rows become, as it stands in Kafka; a delay that the replay draws is its median here."""
    events: list[dict[str, Any]] = []
    for rows in log.stretches(num_rows=num_rows):
        for row in rows.iter_rows(named=True):
            events += [msgspec.to_builtins(event) for event in _events(row, log)]
    return events


def _events(row: dict[str, Any], log: Log) -> Iterator[Event]:
    ids = {name: row[name] for name in ("imp_id", "user_id", "item_id")}
    if row["shown"]:
        reserved = {name: row[name] for name in _RESERVED if row.get(name) is not None}
        if row.get("served_probability") is not None:
            reserved["served"] = Served(probability=row["served_probability"], version=row.get("served_version") or 0)
        features = {**_of(log.users, row["user_id"], row["ts"]), **_of(log.items, row["item_id"], row["ts"])}
        own = {k.removeprefix("feature."): v for k, v in row.items() if k.startswith("feature.") and v is not None}
        yield Impression(**ids, ts=row["ts"], features={**features, **own}, **reserved)
    for k, rule in enumerate(log.feedback):
        if row[f"feedback.{k}"]:
            ts = row["ts"] + round(1000 * rule.delay.median_s) if rule.delay else row[f"ts.{k}"]
            value = row.get(f"value.{k}")
            yield Feedback(**ids, action=rule.action, ts=ts, **({} if value is None else {"value": value}))


def _of(table: FeatureTable, key: str, ts: int) -> dict[str, RawFeature]:
    return dict(table.get(key, ts))
