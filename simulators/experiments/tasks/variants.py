"""Models of several tasks: a fast part for each, a deep part for each, or one deep part with heads.

All learn the same samples. A deep part for one task alone is the same model with the losses of the others at weight 0.
"""

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from learner.config import BalanceSettings, HeadSettings
from learner.recipe import Recipe
from simulators.experiments.stream.variant import Change, Variant, with_deep

FAST = "fast"
HEADS = tuple(kind for kind in get_args(get_type_hints(HeadSettings)["kind"]) if kind != "none")
BALANCES: tuple[str, ...] = get_args(get_type_hints(BalanceSettings)["method"])


def alone(task: str) -> str:
    """The deep part of one task."""
    return f"dcnv2 for {task} alone"


def headed(kind: str, method: str) -> str:
    """One deep part of all tasks."""
    return f"dcnv2, {kind}, {method}"


def beside_fast(kind: str) -> str:
    """The same beside the fast parts."""
    return f"fast + dcnv2, {kind}"


def task_variants(micro_batch: int, tasks: Sequence[str], value_units: dict[str, float]) -> Iterator[Variant]:
    """All of them.

    Args:
        micro_batch: samples per step of a deep part.
        tasks: names.
        value_units: of the tasks whose values are learned.
    """

    def of(name: str, change: Change) -> Variant:
        return Variant(name, lambda recipe: change(_all_learned(recipe, value_units)))

    yield of(FAST, lambda recipe: recipe)
    for task in tasks:
        others = {name: 0.0 for name in tasks if name != task}
        yield of(alone(task), _deep(micro_batch, "shared_bottom", BalanceSettings(weights=others), fast=False))
    for kind in HEADS:
        for method in BALANCES:
            balance = msgspec.convert({"method": method}, BalanceSettings)
            yield of(headed(kind, method), _deep(micro_batch, kind, balance, fast=False))
    for kind in HEADS:
        yield of(beside_fast(kind), _deep(micro_batch, kind, BalanceSettings(), fast=True))


def _deep(micro_batch: int, kind: str, balance: BalanceSettings, *, fast: bool) -> Change:
    made: dict[str, Any] = {"kind": kind, "layers": 2 if kind == "snr" else 1}
    change = with_deep(micro_batch, fast=fast, heads=msgspec.convert(made, HeadSettings))

    def changed(recipe: Recipe) -> Recipe:
        recipe = change(recipe)
        return msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, balance=balance))

    return changed


def _all_learned(recipe: Recipe, value_units: dict[str, float]) -> Recipe:
    tasks = tuple(msgspec.structs.replace(task, value_unit=value_units.get(task.name, 0.0)) for task in recipe.tasks)
    return msgspec.structs.replace(recipe, tasks=tasks, learner=msgspec.structs.replace(recipe.learner, tasks="all"))
