"""What is compared: readers of histories in the deep part and in the fast part, and tokens of past samples, by length.

fast ...           the fast part: without a history, with the mean of the newest L items (the product as it is set)
dnn ...            a DNN as the deep part alone, without masks and adapter: without a history, and with each reader
fast + dnn ...     both
sif ...            SIF's mixer and head alone (arXiv 2604.15650), with other tokens or another mixing
dnn, sif of L      its sub-tokens as further fields of the DNN
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from learner.config import HistorySettings
from learner.recipe import Recipe
from learner.sif.inputs import slots_of
from learner.sif.packed import MOST_BITS
from simulators.experiments.histories.past import Coded, Dense, Plain, Views, coded
from simulators.experiments.stream.variant import BLOCK, Change, Given, Variant
from simulators.experiments.stream.variants import Contrast

FAST, DNN, BOTH, NO_PAST = "fast", "dnn", "fast + dnn", "sif of 0"
READERS = ("mean", "din", "multi_din", "dmt", "sim")
_NEVER = 1_000_000_000


class Past(NamedTuple):
    """What is a history of a log."""

    action: str
    fields: tuple[str, ...]
    """Of the item, of one value: the first is the category that SIM searches by and Multi-DIN asks for; all are the key
    features of a past item."""
    sizes: tuple[int, ...]
    """B, fields of a sub-token, beside the 8 that are usual; codes are as long as so many sub-tokens leave room for."""


PASTS: Mapping[str, Past] = {
    "ml-1m": Past("like", ("decade", "year"), (2, 4)),
    "kuairand-pure": Past("click", ("author_id", "upload_type"), (4, 16)),
}


class Arm(msgspec.Struct, frozen=True):
    """One model, at one length of the history."""

    variant: Variant
    length: int
    """L; 0: none."""
    against: str
    """Name of the same without a history; empty for that one itself."""


def history_of(past: Past, length: int) -> HistorySettings:
    """The history that a recording has."""
    return HistorySettings("past", (past.action,), length=length, by=past.fields[0])


def arms(past: Past, lengths: Sequence[int], freeze_samples: int) -> Iterator[Arm]:
    """All of them; those without a history are first.

    Args:
        past: what is a history.
        lengths: L, at which each is made.
        freeze_samples: between two frozen versions of a tokenizer.
    """
    make = _Arms(past, freeze_samples)
    yield Arm(Variant(FAST, make.fast(0)), 0, "")
    yield Arm(Variant(DNN, make.deep(0, fast=False)), 0, "")
    yield Arm(Variant(BOTH, make.deep(0, fast=True)), 0, "")
    yield Arm(Variant(NO_PAST, make.sif(1, freeze_samples=_NEVER), given=Coded), 0, "")
    for length in lengths:
        yield Arm(Variant(f"fast, mean of {length}", make.fast(length)), length, FAST)
        for reader in READERS:
            change = make.deep(length, fast=False, history=reader)
            yield Arm(Variant(f"dnn, {reader} of {length}", change), length, DNN)
        yield Arm(Variant(f"fast + dnn, din of {length}", make.deep(length, fast=True, history="din")), length, BOTH)
        for name, change, given in make.tokens(length):
            yield Arm(Variant(f"{name} of {length}", change, given=given), length, NO_PAST)
        yield Arm(Variant(f"dnn, sif of {length}", make.sif(length, deep="dnn"), given=Coded), length, DNN)


def of_tokens(past: Past, lengths: Sequence[int]) -> Iterator[Contrast]:
    """Other tokens, other mixing, other sizes: each less SIF at the same length.

    Args:
        past: what is a history.
        lengths: L.
    """
    for length in lengths:
        others = [f"sif, {name}" for name in ("items", "item and fields", "dense", "pooled", "flat")]
        for name in [*others, *(f"sif, B = {size}" for size in past.sizes)]:
            yield Contrast("tokens", f"{name} of {length}", f"sif of {length}")
        yield Contrast("tokens", f"sif of {length}", f"dnn, din of {length}")


class _Arms:
    def __init__(self, past: Past, freeze_samples: int) -> None:
        self._past, self._freeze_samples = past, freeze_samples

    def fast(self, length: int) -> Change:
        def change(recipe: Recipe) -> Recipe:
            fast = msgspec.structs.replace(recipe.fast, history_items=length)
            return msgspec.structs.replace(recipe, fast=fast, model=_model(recipe, fast=True, deep="none"))

        return change

    def deep(self, length: int, *, fast: bool, history: str = "none") -> Change:
        def change(recipe: Recipe) -> Recipe:
            values = {"fast": fast, "deep": "dnn", "history": history, "history_items": max(1, length)}
            own = msgspec.structs.replace(recipe.fast, history_items=0)
            learner = msgspec.structs.replace(recipe.learner, block=BLOCK)
            return msgspec.structs.replace(recipe, fast=own, learner=learner, model=_model(recipe, **values))

        return change

    def sif(self, length: int, *, deep: str = "sif", views: bool = False, **values: Any) -> Change:
        def change(recipe: Recipe) -> Recipe:
            crosses = tuple((cross.fields[0], cross.fields[1]) for cross in recipe.crosses)
            given = {"crosses": crosses, "freeze_samples": self._freeze_samples, **values}
            sif = msgspec.structs.replace(recipe.model.sif, **given)
            room = MOST_BITS // (len(slots_of(recipe.fields, sif)) * sif.levels)
            sif = msgspec.structs.replace(sif, code_bits=min(sif.code_bits, room))
            learner = msgspec.structs.replace(recipe.learner, block=BLOCK)
            own = msgspec.structs.replace(recipe.fast, history_items=0)
            histories = recipe.histories
            if sif.tokens == "codes":
                histories = coded(histories)
            elif views:
                (one,) = histories
                histories = tuple(msgspec.structs.replace(one, name=by, by=by) for by in self._past.fields)
            model = _model(recipe, fast=False, deep=deep, history="sif", history_items=length, sif=sif)
            return msgspec.structs.replace(recipe, fast=own, learner=learner, histories=histories, model=model)

        return change

    def tokens(self, length: int) -> Iterator[tuple[str, Change, Given]]:
        yield "sif", self.sif(length), Coded
        yield "sif, items", self.sif(length, tokens="items"), Plain
        yield "sif, item and fields", self.sif(length, tokens="fields", views=True), Views
        yield "sif, dense", self.sif(length), Dense
        yield "sif, pooled", self.sif(length, mixing="pooled"), Coded
        yield "sif, flat", self.sif(length, mixing="flat"), Coded
        for size in self._past.sizes:
            yield f"sif, B = {size}", self.sif(length, fields_per_token=size), Coded


def _model(recipe: Recipe, **values: Any) -> Any:
    return msgspec.structs.replace(recipe.model, **{"adapter": False, "num_masks": 0, **values})
