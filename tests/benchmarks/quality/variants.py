"""The variants of the model that are compared with the whole one."""

from collections.abc import Iterator
from typing import get_args

import msgspec

from learner.content.config import ContentStartSettings, Method
from learner.fast.config import GroupSettings, MaskFields, Signal
from learner.fast.layout import FieldGroup
from learner.recipe import Recipe
from simulators.experiments.stream.variant import Variant, with_deep, with_fast, with_learner

WHOLE = "whole"
AS_IS, UNSETTLED, SETTLED = "", "unsettled", "settled"
"""Recordings: with the settings' own join, and with `join.settle_ms` off and on."""
_NO_RATE = 1e-9
_MICRO_BATCHES = (64, 256, 1024)


def variants(recipe: Recipe) -> Iterator[Variant]:
    """All that are of use with a recipe; the whole one is first."""
    yield Variant(WHOLE)
    if recipe.model.fast:
        yield from _of_the_gate(recipe)
        yield Variant("no levels", with_fast(levels=False))
        yield Variant("no crosses", lambda given: msgspec.structs.replace(given, crosses=()))
        yield from _of_the_factors()
        for fields in get_args(MaskFields):
            yield Variant(f"masks per sample: {fields}", with_fast(num_masks=1, mask_fields=fields))
        yield from (_users_start(method) for method in ("mean", "nearest", "learned"))
    yield Variant("delayed feedback: none", with_learner(delayed_feedback="none"))
    yield Variant("delayed feedback: undo, none settled", with_learner(delayed_feedback="undo"), UNSETTLED)
    yield Variant("delayed feedback: undo, settled", with_learner(delayed_feedback="undo"), SETTLED)
    for micro_batch in _MICRO_BATCHES:
        yield Variant(f"dcnv2 on top, by {micro_batch}", with_deep(micro_batch))
        bare = with_deep(micro_batch, num_masks=0, adapter=False)
        yield Variant(f"dcnv2 on top, by {micro_batch}, no masks, no adapter", bare)
    for micro_batch in _MICRO_BATCHES:
        yield Variant(f"dcnv2 alone, by {micro_batch}", with_deep(micro_batch, fast=False))
    yield Variant("dcnv2 alone, by 64, no masks, no adapter", with_deep(64, fast=False, num_masks=0, adapter=False))


def _of_the_gate(recipe: Recipe) -> Iterator[Variant]:
    used = recipe.fast.gate_signals
    yield Variant("no gate", with_fast(gate=False))
    for of in ("user", "item"):
        signals = tuple(name for name in used if name.startswith(of))
        yield Variant(f"gate: {of} signals only", with_fast(gate_signals=signals))
    for name in used:
        yield Variant(f"gate: without {name}", with_fast(gate_signals=tuple(other for other in used if other != name)))
    for name in get_args(Signal):
        if name not in used:
            yield Variant(f"gate: with {name}", with_fast(gate_signals=(*used, name)))
    norms = not recipe.fast.gate_norms
    yield Variant(f"gate: {'with' if norms else 'without'} norms", with_fast(gate_norms=norms))


def _of_the_factors() -> Iterator[Variant]:
    yield Variant("no factors", _without_factors)
    for group in (FieldGroup.ATTRIBUTES, FieldGroup.CONTENT):
        yield Variant(f"no factors of {group.name.lower()}", without_vectors=(group,))
    both = (FieldGroup.ATTRIBUTES, FieldGroup.CONTENT)
    yield Variant("factors of ids only", without_vectors=both)
    yield Variant("users by Adagrad", with_fast(kalman=False))


def _users_start(method: Method) -> Variant:
    start = ContentStartSettings(method=method)
    return Variant(f"users start: {method}", lambda given: msgspec.structs.replace(given, user_start=start))


def _without_factors(recipe: Recipe) -> Recipe:
    """One factor that is 0 and stays so: a product's gradient is the other side, which is 0, too."""
    fast = recipe.fast
    still = {
        name: GroupSettings(getattr(fast, name).prior, _NO_RATE) for name in ("user", "attributes", "item", "content")
    }
    return msgspec.structs.replace(recipe, fast=msgspec.structs.replace(fast, factors=1, init_std=0.0, **still))
