"""What new items start with, as it is compared."""

import msgspec

from learner.content.config import is_content
from learner.fast.config import GroupSettings
from learner.fast.layout import FieldGroup
from learner.recipe import Recipe
from simulators.experiments.new_items.meta import GivenMeta
from simulators.experiments.stream.variant import Change, Variant, with_fast

RANDOM, UNKNOWN, MEAN, CATEGORY = "random", "unknown row", "mean of items", "mean of the category"
CONTENT, BEHAVIOUR = "content", "content and behaviour"
META, DROPOUT = "Meta-Embedding", "DropoutNet"
WHOLE, IDS = "whole", "ids"
MODELS = WHOLE, IDS
"""The model as it is set, and one to which an item is its id alone: its content's fields and their crosses teach
nothing, and are there for starts only."""
_NEVER = GroupSettings(prior=1e9, rate=1e-9)


def _starts(method: str) -> Change:
    def change(recipe: Recipe) -> Recipe:
        return msgspec.structs.replace(
            recipe, content_start=msgspec.structs.replace(recipe.content_start, method=method)
        )

    return change


def _dropped(recipe: Recipe) -> Recipe:
    """DropoutNet (Volkovs et al., NeurIPS 2017) leaves an item's own vector out of a share of its samples, so that its
    content learns to stand for it. With a share of one half that is, in the mean, as much loss with it as without: here
    each sample is learned with the id, and once more without it and its crosses."""
    masked = with_fast(num_masks=1, mask_fields="item_id", mask_low=1.0, mask_high=1.0, mask_weight=1.0)
    return masked(_starts("none")(recipe))


_ARMS = {
    RANDOM: Variant(RANDOM, _starts("none")),
    UNKNOWN: Variant(UNKNOWN, _starts("zero")),
    MEAN: Variant(MEAN, _starts("mean")),
    CATEGORY: Variant(CATEGORY, _starts("category")),
    CONTENT: Variant(CONTENT, _starts("nearest")),
    BEHAVIOUR: Variant(BEHAVIOUR, _starts("learned")),
    # It has its own way from content to a start, and the content that `nearest` keeps.
    META: Variant(META, _starts("nearest"), given=GivenMeta),
    DROPOUT: Variant(DROPOUT, _dropped),
}
ARMS = tuple(_ARMS)


def arm(name: str, model: str = WHOLE) -> Variant:
    """One of them.

    Args:
        name: of `ARMS`.
        model: of `MODELS`.
    """
    own = _ARMS[name]
    if model == WHOLE:
        return own
    return msgspec.structs.replace(
        own,
        name=f"{name}, ids",
        change=lambda recipe: _ids_alone(own.change(recipe)),
        without_vectors=(FieldGroup.CONTENT,),
    )


def _ids_alone(recipe: Recipe) -> Recipe:
    content = {field.name for field in recipe.fields if is_content(field, "item")}
    crosses = tuple(cross for cross in recipe.crosses if not content.intersection(cross.fields))
    return msgspec.structs.replace(recipe, fast=msgspec.structs.replace(recipe.fast, content=_NEVER), crosses=crosses)
