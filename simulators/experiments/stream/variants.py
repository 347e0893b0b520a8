"""What is compared on a stream: AdaF2M2's parts around a deep part, with and without the fast part, and in it."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec

from learner.fast.config import MaskFields
from learner.recipe import Recipe
from simulators.experiments.stream.variant import Change, Variant, with_deep, with_fast

WHOLE = "fast"
"""The product as it is set: the fast part alone, with its gate."""
ID_DROPOUT = 0.3
"""As many ids are hidden as by masks on the average, whose probability is drawn from U[.1, .5]."""
BASE, MASKS, ADAPTER, FULL = "dcnv2", "dcnv2, masks", "dcnv2, adapter", "dcnv2, masks and adapter"
DROPPED = "dcnv2, ID dropout"
NO_GATE = "fast, no gate"
_OF_DEEP: dict[str, dict[str, Any]] = {
    BASE: {"num_masks": 0, "adapter": False},
    DROPPED: {"num_masks": 0, "adapter": False, "id_dropout": ID_DROPOUT},
    MASKS: {"num_masks": 1, "adapter": False},
    ADAPTER: {"num_masks": 0, "adapter": True},
    FULL: {"num_masks": 1, "adapter": True},
}
Part = Literal[
    "masks", "adapter", "gate", "both", "ID dropout", "fast part", "deep part", "rival", "whole", "history", "tokens"
]


class Contrast(msgspec.Struct, frozen=True):
    """Two variants that differ in one part."""

    part: Part
    variant: str
    against: str


def on_fast(name: str) -> str:
    """A variant of the deep part beside the fast part."""
    return f"fast + {name}"


def masked(fields: str) -> str:
    """The fast part with masks per sample."""
    return f"fast, masks of {fields}"


def variants(micro_batch: int) -> Iterator[Variant]:
    """All variants; those that are learned soonest are first.

    Args:
        micro_batch: samples per step of the deep part.
    """
    yield Variant(WHOLE, _fast_alone(gate=True, num_masks=0))
    yield Variant(NO_GATE, _fast_alone(gate=False, num_masks=0))
    for fields in get_args(MaskFields):
        yield Variant(masked(fields), _fast_alone(gate=True, num_masks=1, mask_fields=fields))
    for name, values in _OF_DEEP.items():
        yield Variant(name, with_deep(micro_batch, fast=False, **values))
    for name, values in _OF_DEEP.items():
        yield Variant(on_fast(name), with_deep(micro_batch, fast=True, **values))


def _fast_alone(**values: Any) -> Change:
    def change(recipe: Recipe) -> Recipe:
        model = msgspec.structs.replace(recipe.model, fast=True, deep="none")
        return with_fast(**values)(msgspec.structs.replace(recipe, model=model))

    return change


def contrasts(rivals: list[str]) -> Iterator[Contrast]:
    """What each part brings, where it is added.

    Args:
        rivals: names of those that there are.
    """
    for of in (str, on_fast):
        yield Contrast("masks", of(MASKS), of(BASE))
        yield Contrast("masks", of(FULL), of(ADAPTER))
    for fields in get_args(MaskFields):
        yield Contrast("masks", masked(fields), WHOLE)
    for of in (str, on_fast):
        yield Contrast("adapter", of(ADAPTER), of(BASE))
        yield Contrast("adapter", of(FULL), of(MASKS))
    yield Contrast("gate", WHOLE, NO_GATE)
    for of in (str, on_fast):
        yield Contrast("both", of(FULL), of(BASE))
        yield Contrast("ID dropout", of(DROPPED), of(BASE))
    for name in (BASE, FULL):
        yield Contrast("fast part", on_fast(name), name)
        yield Contrast("deep part", on_fast(name), WHOLE)
    for rival in rivals:
        yield Contrast("rival", WHOLE, rival)
