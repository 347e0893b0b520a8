"""What a log, or a world as one, looks like: tails, rates, delays, and how much attributes say."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from simulators.logs.log import FeatureTable, Log
from simulators.world.fitting.interplay import Interplay, interplay
from simulators.world.tail import share_of_top
from stream.settings import Settings, load_settings

_LEAST = 10
"""Users and items with fewer impressions say nothing of how their means are spread."""
_COLD = 10
_MOST_DELAYS = 200_000
_MOST_ATTRIBUTES = 4


class ActionSeen(msgspec.Struct, frozen=True):
    """One kind of feedback."""

    name: str
    rate: float
    """Of the impressions."""
    with_main: float
    """Share of it that comes with a label 1."""
    delay_s: float | None
    """Median; None where it comes with the impression."""
    delay_sigma: float
    value: float | None
    """Median; None where it has none."""
    value_sigma: float


class EntitiesSeen(msgspec.Struct, frozen=True):
    """Users, or items."""

    number: int
    share_of_top: float
    """Impressions of the 5 % that have most."""
    new_per_day: float
    """Share of all that comes in a day, the first tenth of the time left out."""
    spread: float
    """Standard deviation of their own parts of the label's logit."""
    attributes: dict[str, int]
    """Name -> number of values."""


class Seen(msgspec.Struct, frozen=True):
    """A log."""

    impressions: int
    days: float
    label_rate: float
    has_positions: bool
    cold_share: float
    """Share of impressions whose user had fewer than ten before."""
    users: EntitiesSeen
    items: EntitiesSeen
    interplay: Interplay
    """How much of taste lies in the attributes."""
    actions: list[ActionSeen]


def measure(log: Log, num_rows: int = 0) -> Seen:
    """Read a log through.

    Args:
        log: which.
        num_rows: the first so many rows; 0: all.
    """
    settings = load_settings(environment={}, defaults=log.settings)
    positive = [k for k, rule in enumerate(log.feedback) if rule.action in settings.main_task.positive]
    shown = pl.concat([_thin(rows, positive) for rows in log.stretches(num_rows=num_rows)])
    first, last = int(shown["ts"][0]), int(shown["ts"][-1])
    days = max((last - first) / 86_400_000, 1e-3)
    cold = shown.select((pl.int_range(pl.len()).over("user_id") < _COLD).mean()).item()
    users, of_users = _entities(shown, "user", (log.users, settings), (first, last))
    items, of_items = _entities(shown, "item", (log.items, settings), (first, last))
    known = shown.select("user_id", "item_id", "label").join(of_users, on="user_id").join(of_items, on="item_id")
    return Seen(
        len(shown),
        days,
        float(shown["label"].mean() or 0.0),  # type: ignore[arg-type]
        "position" in shown.columns,
        float(cold),
        users,
        items,
        interplay(known, list(users.attributes), list(items.attributes)),
        [_action(shown, log, k) for k in range(len(log.feedback))],
    )


def _thin(rows: pl.DataFrame, positive: Sequence[int]) -> pl.DataFrame:
    """What is looked at of a stretch: impressions, with what came of each in the same row."""
    wanted = ("feedback", "value", "ts", "feature", "position")
    kept = [name for name in rows.columns if name.partition(".")[0] in wanted]
    label = pl.any_horizontal(pl.col(f"feedback.{k}").fill_null(False) for k in positive)
    return rows.filter("shown").select("user_id", "item_id", *kept, label=label)


def _action(shown: pl.DataFrame, log: Log, number: int) -> ActionSeen:
    rule = log.feedback[number]
    chosen = shown.filter(pl.col(f"feedback.{number}").fill_null(False))
    rate = len(chosen) / max(1, len(shown))
    with_main = float(chosen["label"].mean() or 0.0)  # type: ignore[arg-type]
    values = chosen[f"value.{number}"] if f"value.{number}" in chosen.columns else None
    value, value_sigma = _log_normal(None if values is None else values.to_numpy())
    if rule.delay is not None:
        delay: tuple[float | None, float] = rule.delay.median_s, rule.delay.sigma
    else:
        came = chosen[f"ts.{number}"].fill_null(chosen["ts"]) - chosen["ts"]
        delay = _log_normal(came.head(_MOST_DELAYS).to_numpy() / 1000)
    return ActionSeen(rule.action, rate, with_main, *delay, value, value_sigma)


def _log_normal(values_N: np.ndarray | None) -> tuple[float | None, float]:
    """Median, and standard deviation of the logarithm, of what is above 0."""
    if values_N is None or not (values_N > 0).any():
        return None, 0.0
    logs_N = np.log(values_N[values_N > 0])
    return float(np.exp(np.median(logs_N))), float(logs_N.std())


def _entities(
    shown: pl.DataFrame, group: str, known: tuple[FeatureTable, Settings], span: tuple[int, int]
) -> tuple[EntitiesSeen, pl.DataFrame]:
    """Figures, and the attributes of those that are there often."""
    found = shown.group_by(f"{group}_id", maintain_order=True).agg(
        pl.len(), label=pl.col("label").mean(), first=pl.col("ts").min(), **_in_rows(shown, group, known[1])
    )
    since = span[0] + (span[1] - span[0]) // 10
    new = float((found["first"] >= since).mean() or 0.0)  # type: ignore[arg-type]
    days = max((span[1] - since) / 86_400_000, 1e-3)
    often = found.filter(pl.col("len") >= _LEAST)
    attributes = _attributes(often, group, known, span[1])
    between = _between(often["label"].to_numpy(), often["len"].to_numpy())
    rate = min(max(float(shown["label"].mean() or 0.0), 1e-3), 1 - 1e-3)  # type: ignore[arg-type]
    seen = EntitiesSeen(
        len(found),
        share_of_top(found["len"].to_numpy()),
        new / days,
        float(np.sqrt(between)) / (rate * (1 - rate)),
        {name: values.n_unique() for name, values in attributes.items()},
    )
    return seen, often.select(f"{group}_id", **attributes)


def _between(means_N: np.ndarray, counts_N: np.ndarray) -> float:
    """Variance of means, without what chance adds to each."""
    if len(means_N) < 3:
        return 0.0
    chance = float(np.mean(means_N * (1 - means_N) / (counts_N - 1)))
    return max(0.0, float(means_N.var(ddof=1)) - chance)


def _declared(group: str, settings: Settings) -> list[str]:
    return [f.name for f in settings.fields if f.group == group and f.kind in ("categorical", "multi")]


def _in_rows(shown: pl.DataFrame, group: str, settings: Settings) -> dict[str, Any]:
    names = [name for name in _declared(group, settings) if f"feature.{name}" in shown.columns]
    return {name: pl.col(f"feature.{name}").last() for name in names}


def _attributes(found: pl.DataFrame, group: str, known: tuple[FeatureTable, Settings], ts: int) -> dict[str, pl.Series]:
    """Values of attributes of those entities, of a list the first; only of those that several share, and that no other
    one tells."""
    table, settings = known
    of_all = [table.get(key, ts) for key in found[f"{group}_id"].to_list()]
    attributes: dict[str, pl.Series] = {}
    for name in _declared(group, settings):
        values: list[Any] = found[name].to_list() if name in found.columns else [of.get(name) for of in of_all]
        first = [str(v[0] if isinstance(v, list) and v else v) for v in values]
        column = pl.Series(name, first, dtype=pl.String)
        if 1 < column.n_unique() <= len(column) / 3 and not any(
            _is_nested(column, other) for other in attributes.values()
        ):
            attributes[name] = column
    return dict(list(attributes.items())[:_MOST_ATTRIBUTES])


def _is_nested(one: pl.Series, other: pl.Series) -> bool:
    """Whether one of both follows from the other, as a decade from a year."""
    pairs = pl.DataFrame({"one": one, "other": other}).n_unique()
    return pairs == max(one.n_unique(), other.n_unique())
