"""A small log with everything that a log can have, row by row."""

import msgspec
import numpy as np
import polars as pl

from learner.config import FieldSettings
from simulators.logs.log import Delay, FeatureTable, FeedbackRule, FrameLog
from state_store.config import ActionSettings
from state_store.tasks import TaskSettings
from stream.settings import Settings

START_MS = 1_650_000_000_000
RULES = (
    FeedbackRule("click", Delay(median_s=10, sigma=1.0)),
    FeedbackRule("buy"),
    FeedbackRule("watch", Delay(median_s=60, sigma=0.5)),
)


TASKS = (
    TaskSettings("click", ("click",), window_ms=60_000, main=True),
    TaskSettings("buy", ("buy",), window_ms=60_000),
    TaskSettings("watch", ("watch", "buy"), window_ms=120_000, attribution_ms=1_800_000),
)
FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("genre", "item", "categorical"),
    FieldSettings("domain", "context", "categorical"),
)


def with_tasks(settings: Settings) -> Settings:
    """Settings for this log, of three tasks: some labels are known late, some turn."""
    actions = ActionSettings(names=tuple(rule.action for rule in RULES))
    return msgspec.structs.replace(settings, actions=actions, tasks=TASKS, fields=FIELDS)


def small_log(num_rows: int, seed: int = 0, *, dated: bool = True, later_rows: bool = False) -> FrameLog:
    """A log of `num_rows` rows a second apart.

    Args:
        num_rows: rows.
        seed: of what they say.
        dated: whether what is known of users changes with time.
        later_rows: whether one row in ten is feedback to the impression before it.
    """
    rng = np.random.default_rng(seed)
    ts = START_MS + 1000 * np.arange(num_rows)
    user, item = (np.array([f"{kind}{n}" for n in rng.integers(40, size=num_rows)]) for kind in "ui")
    imp_id = np.array([f'r"{n}é' if n % 7 == 0 else f"r{n}" for n in range(num_rows)])
    shown = np.ones(num_rows, bool)
    if later_rows:
        later = np.arange(num_rows) % 10 == 9
        shown[later] = False
        for column in (user, item, imp_id):
            column[later] = column[np.flatnonzero(later) - 1]
    clicked, bought, watched = (rng.random((3, num_rows)) < [[0.4], [0.2], [0.3]]) | ~shown
    rows = pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "ts": ts,
            "imp_id": imp_id,
            "shown": shown,
            "feedback.0": clicked & shown,
            "feedback.1": bought,
            "feedback.2": watched & shown,
            "ts.1": np.where(bought, ts + rng.integers(1000, 30_000, num_rows), None).tolist(),
            "value.2": np.where(rng.random(num_rows) < 0.8, rng.exponential(40, num_rows), None).tolist(),
            "domain": rng.choice(["feed", "search"], num_rows),
            "position": rng.integers(20, size=num_rows),
            "propensity": rng.uniform(0.01, 1, num_rows),
            "served_probability": np.where(rng.random(num_rows) < 0.5, rng.random(num_rows), None).tolist(),
            "served_version": rng.integers(9, size=num_rows),
            "feature.hour": rng.choice(["7", "é\n", None], num_rows).tolist(),
        },
        schema_overrides={"ts.1": pl.Int64, "value.2": pl.Float64, "served_probability": pl.Float64},
    )
    young, old = {"age": "1", "tags": ["a", 2]}, {"age": "2", "price": 1.5}
    middle = START_MS + 500 * num_rows
    users = {f"u{n}": ([0, middle], [young, old]) for n in range(30)}
    plain = {name: features[0] for name, (_, features) in users.items()}
    items = FeatureTable({f"i{n}": {"genre": f"g{n % 5}", "age": n} for n in range(35)})
    table = FeatureTable({}, users) if dated else FeatureTable(plain)
    return FrameLog("small", rows, RULES, table, items, source="made")
