"""The variants of the model that are compared with the whole one."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
import numpy as np
from quality.figures import Said
from quality.recorded import Recording

from learner.fast.config import GroupSettings, MaskFields, Signal
from learner.fast.layout import FieldGroup, group_of
from learner.learner import Learner
from learner.recipe import Recipe

WHOLE = "whole"
AS_IS, UNSETTLED, SETTLED = "as is", "unsettled", "settled"
"""Recordings: with the settings' own join, and with `join.settle_ms` off and on."""
_BLOCK = 1024
_NO_RATE = 1e-9
_MICRO_BATCHES = (64, 256, 1024)


class Variant(msgspec.Struct, frozen=True):
    """One of them."""

    name: str
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    recording: str = AS_IS
    without_vectors: tuple[FieldGroup, ...] = ()
    """Fields of these groups have first-order weights alone."""


def variants(recipe: Recipe) -> Iterator[Variant]:
    """All that are of use with a recipe; the whole one is first."""
    yield Variant(WHOLE)
    if recipe.model.fast:
        yield from _of_the_gate(recipe)
        yield Variant("no levels", _fast(levels=False))
        yield Variant("no crosses", lambda given: msgspec.structs.replace(given, crosses=()))
        yield from _of_the_factors()
        for fields in get_args(MaskFields):
            yield Variant(f"masks per sample: {fields}", _fast(num_masks=1, mask_fields=fields))
    yield Variant("delayed feedback: none", _learner(delayed_feedback="none"))
    yield Variant("delayed feedback: undo, none settled", _learner(delayed_feedback="undo"), UNSETTLED)
    yield Variant("delayed feedback: undo, settled", _learner(delayed_feedback="undo"), SETTLED)
    for micro_batch in _MICRO_BATCHES:
        yield Variant(f"dcnv2 on top, by {micro_batch}", _deep(micro_batch))
        bare = _deep(micro_batch, num_masks=0, adapter=False)
        yield Variant(f"dcnv2 on top, by {micro_batch}, no masks, no adapter", bare)
    for micro_batch in _MICRO_BATCHES:
        yield Variant(f"dcnv2 alone, by {micro_batch}", _deep(micro_batch, fast=False))
    yield Variant("dcnv2 alone, by 64, no masks, no adapter", _deep(64, fast=False, num_masks=0, adapter=False))


def _of_the_gate(recipe: Recipe) -> Iterator[Variant]:
    used = recipe.fast.gate_signals
    yield Variant("no gate", _fast(gate=False))
    for of in ("user", "item"):
        signals = tuple(name for name in used if name.startswith(of))
        yield Variant(f"gate: {of} signals only", _fast(gate_signals=signals))
    for name in used:
        yield Variant(f"gate: without {name}", _fast(gate_signals=tuple(other for other in used if other != name)))
    for name in get_args(Signal):
        if name not in used:
            yield Variant(f"gate: with {name}", _fast(gate_signals=(*used, name)))
    norms = not recipe.fast.gate_norms
    yield Variant(f"gate: {'with' if norms else 'without'} norms", _fast(gate_norms=norms))


def _of_the_factors() -> Iterator[Variant]:
    yield Variant("no factors", _without_factors)
    for group in (FieldGroup.ATTRIBUTES, FieldGroup.CONTENT):
        yield Variant(f"no factors of {group.name.lower()}", without_vectors=(group,))
    both = (FieldGroup.ATTRIBUTES, FieldGroup.CONTENT)
    yield Variant("factors of ids only", without_vectors=both)


def _fast(**values: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: msgspec.structs.replace(recipe, fast=msgspec.structs.replace(recipe.fast, **values))


def _learner(**values: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, **values))


def _deep(micro_batch: int, **values: Any) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        model = msgspec.structs.replace(recipe.model, deep="dcnv2", **values)
        learner = msgspec.structs.replace(recipe.learner, micro_batch=micro_batch, block=_BLOCK)
        return msgspec.structs.replace(recipe, model=model, learner=learner)

    return change


def _without_factors(recipe: Recipe) -> Recipe:
    """One factor that is 0 and stays so: a product's gradient is the other side, which is 0, too."""
    fast = recipe.fast
    still = {
        name: GroupSettings(getattr(fast, name).prior, _NO_RATE) for name in ("user", "attributes", "item", "content")
    }
    return msgspec.structs.replace(recipe, fast=msgspec.structs.replace(fast, factors=1, init_std=0.0, **still))


def run(variant: Variant, recording: Recording, seed: int) -> tuple[Said, float]:
    """Learn a recording from its beginning; returns what was said of each sample before, and samples/s."""
    recipe = variant.change(recording.settings.recipe)
    learner = Learner(msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, seed=seed)))
    learner.warm_up()
    if variant.without_vectors:
        _take_vectors(learner, variant.without_vectors)
    predictions, ranks, seconds = [], [], 0.0
    for samples in recording.blocks(_BLOCK):
        began = time.perf_counter()
        learned = learner.learn(samples)
        seconds += time.perf_counter() - began
        predictions.append(learned.predictions_B)
        ranks.append(learned.ranks_B)
    said = Said(np.concatenate(predictions), np.concatenate(ranks))
    del learner
    # Its tables are some GB of addresses, of which a process has only so many.
    gc.collect()
    return said, len(said.predictions_T) / seconds


def _take_vectors(learner: Learner, groups: tuple[FieldGroup, ...]) -> None:
    """Let values of the groups' fields have none, which no setting does."""
    assert learner.fast is not None
    constants = learner.fast._constants
    has_F = constants.has_factors_F.copy()
    has_F[[group_of(field) in groups for field in learner.fields]] = 0
    learner.fast._constants = constants._replace(has_factors_F=has_F)
