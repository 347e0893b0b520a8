"""What new items start with, as it is compared."""

from typing import Any

import msgspec

from learner.content.config import is_content
from learner.fast.config import GroupSettings
from learner.fast.layout import FieldGroup
from learner.recipe import Recipe
from simulators.experiments.new_items.meta import GivenMeta
from simulators.experiments.stream.variant import Change, Given, Variant, with_fast

RANDOM, UNKNOWN, MEAN, CATEGORY = "random", "unknown row", "mean of items", "mean of the category"
CONTENT, BEHAVIOUR = "content", "content and behaviour"
META, DROPOUT = "Meta-Embedding", "DropoutNet"
_METHODS: dict[str, dict[str, Any]] = {
    RANDOM: {"method": "none"},
    UNKNOWN: {"method": "zero"},
    MEAN: {"method": "mean"},
    CATEGORY: {"method": "category"},
    CONTENT: {"method": "nearest"},
    BEHAVIOUR: {"method": "learned"},
    META: {"method": "nearest"},
    DROPOUT: {"method": "none"},
}
"""Meta-Embedding has its own way from content to a start, and the content that `nearest` keeps."""
_GIVEN: dict[str, Given] = {META: GivenMeta}
_LEARNED: dict[str, Change] = {
    # DropoutNet (Volkovs et al., NeurIPS 2017) leaves an item's own vector out of a share of its samples, so that its
    # content learns to stand for it. With a share of one half that is, in the mean, as much loss with it as without:
    # here each sample is learned with the id, and once more without it and its crosses.
    DROPOUT: with_fast(num_masks=1, mask_fields="item_id", mask_low=1.0, mask_high=1.0, mask_weight=1.0),
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
    learned, starts = _LEARNED.get(name, _as_it_is), _with(_METHODS[name] | (others or {}))
    given = _GIVEN.get(name, Variant("").given)

    def change(recipe: Recipe) -> Recipe:
        changed = learned(starts(recipe))
        return changed if model == WHOLE else _ids_alone(changed)

    if model == WHOLE:
        return Variant(name, change, given=given)
    return Variant(f"{name}, ids", change, without_vectors=(FieldGroup.CONTENT,), given=given)


def _as_it_is(recipe: Recipe) -> Recipe:
    return recipe


def _ids_alone(recipe: Recipe) -> Recipe:
    content = {field.name for field in recipe.fields if is_content(field, "item")}
    crosses = tuple(cross for cross in recipe.crosses if not content.intersection(cross.fields))
    return msgspec.structs.replace(recipe, fast=msgspec.structs.replace(recipe.fast, content=_NEVER), crosses=crosses)


def _with(values: dict[str, Any]) -> Change:
    def change(recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(recipe, content_start=msgspec.structs.replace(recipe.content_start, **values))

    return change
