"""What a world shows as the rows of a log (`simulators/logs/log.py`), with columns that only a world has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from simulators.logs.log import FeedbackRule
from simulators.world.parameters import Parameters
from simulators.world.world import Impressions

TRUTH = "truth"
"""Column: the probability of a click as shown."""
APPEAL = "truth.click"
"""Column: the probability of a click where the item is looked at, whatever its position."""


def feedback_of(parameters: Parameters) -> tuple[FeedbackRule, ...]:
    """What the feedback columns mean; every time is in the rows."""
    return tuple(FeedbackRule(outcome.name) for outcome in parameters.outcomes)


def settings_of(parameters: Parameters) -> dict[str, Any]:
    """What a world says of the pipeline's settings: its attributes as fields, its outcomes as actions and tasks."""
    users, items, names = parameters.users, parameters.items, [outcome.name for outcome in parameters.outcomes]
    fields = [
        *_fields("user", users.attributes),
        *_fields("item", items.attributes),
    ]
    crosses = [{"fields": ["user_id", name]} for name in items.attributes]
    tasks = [{"name": names[0], "positive": [names[0]], "main": True}]
    return {"fields": fields, "actions": {"names": names}, "tasks": tasks, "crosses": crosses}


def _fields(group: str, attributes: Mapping[str, int]) -> list[dict[str, Any]]:
    own = {"name": f"{group}_id", "group": group, "kind": "id", "state": True}
    return [own, *({"name": name, "group": group, "kind": "categorical"} for name in attributes)]


def value_name(attribute: str, code: int) -> str:
    """An attribute's value, as an event has it."""
    return f"{attribute}{code}"


class Rows:
    """Makes rows of impressions.

    Args:
        parameters: of the world.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._outcomes = parameters.outcomes
        self._names = [
            [(name, pl.Series([value_name(name, code) for code in range(size)])) for name, size in of.items()]
            for of in (parameters.users.attributes, parameters.items.attributes)
        ]

    def frame(self, shown: Impressions) -> pl.DataFrame:
        """The rows, by time."""
        number = pl.DataFrame({"v": shown.visit_N, "p": shown.position_N, "u": shown.user_N, "i": shown.item_N})
        ids = number.select(
            user_id=pl.format("u{}", "u"), item_id=pl.format("i{}", "i"), imp_id=pl.format("v{}-{}", "v", "p")
        )
        columns: dict[str, Any] = {
            "ts": shown.ts_N,
            "shown": np.ones(len(shown), np.bool_),
            "position": shown.position_N,
            TRUTH: shown.truth.click_as_shown.astype(np.float64),
            APPEAL: shown.truth.click_N.astype(np.float64),
        }
        for names, codes_NA in zip(self._names, (shown.user_codes_NA, shown.item_codes_NA), strict=True):
            columns |= {f"feature.{name}": values[codes_NA[:, a]] for a, (name, values) in enumerate(names)}
        reactions = shown.reactions
        for o, outcome in enumerate(self._outcomes):
            columns[f"feedback.{o}"] = reactions.happened_NO[:, o]
            columns[f"ts.{o}"] = shown.ts_N + reactions.delay_ms_NO[:, o]
            if outcome.value:
                columns[f"value.{o}"] = reactions.value_NO[:, o].astype(np.float64)
        return ids.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).sort(
            "ts", maintain_order=True
        )
