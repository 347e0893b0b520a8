"""What new items start with, as it is compared."""

from typing import Any

import msgspec

from learner.content.config import is_content
from learner.fast.config import GroupSettings
from learner.fast.layout import FieldGroup
from learner.recipe import Recipe
from simulators.experiments.stream.variant import Change, Variant

RANDOM, UNKNOWN, MEAN, CATEGORY = "random", "unknown row", "mean of items", "mean of the category"
CONTENT, BEHAVIOUR = "content", "content and behaviour"
_METHODS: dict[str, dict[str, Any]] = {
    RANDOM: {"method": "none"},
    UNKNOWN: {"method": "zero"},
    MEAN: {"method": "mean"},
    CATEGORY: {"method": "category"},
    CONTENT: {"method": "nearest"},
    BEHAVIOUR: {"method": "learned"},
}
ARMS = tuple(_METHODS)
WHOLE, IDS = "whole", "ids"
MODELS = WHOLE, IDS
"""The model as it is set, and one to which an item is its id alone: its content's fields and their crosses teach
nothing, and are there for starts only."""
_NEVER = GroupSettings(prior=1e9, rate=1e-9)


def arm(name: str, model: str = WHOLE, others: dict[str, Any] | None = None) -> Variant:
    """One of them.

    Args:
        name: of `ARMS`.
        model: of `MODELS`.
        others: more settings of [content_start].
    """
    change = _with(_METHODS[name] | (others or {}))
    if model == WHOLE:
        return Variant(name, change)
    return Variant(f"{name}, ids", lambda recipe: _ids_alone(change(recipe)), without_vectors=(FieldGroup.CONTENT,))


def _ids_alone(recipe: Recipe) -> Recipe:
    content = {field.name for field in recipe.fields if is_content(field, "item")}
    crosses = tuple(cross for cross in recipe.crosses if not content.intersection(cross.fields))
    return msgspec.structs.replace(recipe, fast=msgspec.structs.replace(recipe.fast, content=_NEVER), crosses=crosses)


def _with(values: dict[str, Any]) -> Change:
    def change(recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, content_start=msgspec.structs.replace(recipe.content_start, **values))

    return change
