"""What new items start with, as it is compared."""

from typing import Any

import msgspec

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


def arm(name: str, others: dict[str, Any] | None = None) -> Variant:
    """One of them.

    Args:
        name: of `ARMS`.
        others: more settings of [content_start].
    """
    return Variant(name, _with(_METHODS[name] | (others or {})))


def _with(values: dict[str, Any]) -> Change:
    def change(recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, content_start=msgspec.structs.replace(recipe.content_start, **values))

    return change
