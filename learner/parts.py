"""The parts of a model, made from its recipe, and what each of them takes."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from learner.adaf2m2.taken import Known, groups_of, served_groups
from learner.fast.block import Predicted
from learner.fast.inputs.histories import entries_of
from learner.fast.inputs.occurrences import Occurrences
from learner.fast.layout import component_names
from learner.fast.model import FastPart
from learner.fast.predictor import FastPredictor, Found, served_part
from learner.fast.warm_up import warm_up as warm_up_fast
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.tables.ids import Ids
from learner.tables.table import Group, Table

if TYPE_CHECKING:
    import torch

    from learner.adaf2m2.deep import DeepPart, Said
    from learner.adaf2m2.served import ServedDeep


def weight_names(recipe: Recipe) -> list[str]:
    """What the weights by state are of: the gate's components, then the deep part's fields."""
    has_gate = recipe.model.fast and recipe.fast.gate
    names = component_names(recipe.fast_recipe, has_deep=recipe.has_deep) if has_gate else []
    if recipe.has_deep and recipe.model.adapter:
        names = names + [f"deep {field.name}" for field in recipe.fields]
    return names


def weights_of(predicted: Predicted, deep: "Said | None", *, has_gate: bool) -> np.ndarray | None:
    """What state made each part count, as `weight_names` says; None if nothing does."""
    weights = [predicted.gates_BK] if has_gate else []
    if deep is not None and deep.weights_BF is not None:
        weights.append(deep.weights_BF)
    return np.concatenate(weights, axis=1) if weights else None


def task_part(recipe: Recipe) -> FastPart:
    """A new fast part for a task besides the main one: with tables, gate and levels of its own.

    With the same seed, so that it is what the fast part would be if that task were the main one. None of its negatives
    may turn: each is believed at once, and taken back if it does.
    """
    return _part(recipe, has_deep=recipe.has_heads)


def fast_part(recipe: Recipe) -> FastPart | None:
    """A new fast part, if the recipe has one; its table has the deep part's values, too."""
    if not recipe.model.fast:
        return None
    return _part(recipe, has_deep=recipe.has_deep, settles=recipe.settles, more=groups_of(recipe))


def served_fast_part(recipe: Recipe) -> FastPredictor | None:
    """The same as a scorer holds it."""
    return _served(recipe, has_deep=recipe.has_deep, more=served_groups(recipe)) if recipe.model.fast else None


def served_task_part(recipe: Recipe) -> FastPredictor:
    """A task's part as a scorer holds it."""
    return _served(recipe, has_deep=recipe.has_heads)


def _served(recipe: Recipe, *, has_deep: bool, more: Sequence[Group] = ()) -> FastPredictor:
    return served_part(recipe.fast_recipe, recipe.fields, len(recipe.fast.gate_signals), has_deep=has_deep, more=more)


def _part(recipe: Recipe, *, has_deep: bool, settles: bool = False, more: Sequence[Group] = ()) -> FastPart:
    return FastPart(
        recipe.fast_recipe,
        recipe.fields,
        len(recipe.fast.gate_signals),
        recipe.learner.seed,
        has_deep=has_deep,
        is_weighted=recipe.learner.delayed_feedback == "fnw",
        settles=settles,
        more=more,
    )


def ages_of(table: Table, occurrences: Occurrences, ts_B: np.ndarray) -> np.ndarray:
    """How long ago each occurrence's id was seen before, ms, shape (N,); -1 of one that has no row.

    Args:
        table: of the values.
        occurrences: of the samples.
        ts_B: event times of the samples, ms.
    """
    ts_N = np.repeat(ts_B, np.diff(occurrences.offsets_B1))
    last_N = table.arrays.last_ts_R[table.find(occurrences.keys_N)]
    ages_N: np.ndarray = np.where(last_N > 0, np.maximum(ts_N - last_N, 0), -1)
    return ages_N


def known(fast: FastPart | None, deep: "DeepPart | None", rows_N: np.ndarray) -> Known:
    """What is known of rows, of any shape: by the fast part, or by the deep part alone."""
    if fast is None:
        assert deep is not None
        return deep.known(rows_N)
    table = fast.table
    # What is taken back may leave no evidence, but hardly a weight of 0, too.
    evidence = ("G",) if fast.starts else ("G", "w")
    is_new_N: np.ndarray = np.logical_and.reduce([table.values[name][rows_N, 0] == 0 for name in evidence])
    return Known(table.norms(rows_N.ravel(), "v").reshape(rows_N.shape), is_new_N)


def unseen(is_new_B2: np.ndarray, rows_B2: np.ndarray, is_learned_B: np.ndarray) -> np.ndarray:
    """Whether user and item had never been trained, as of each sample; shape (B, 2).

    Args:
        is_new_B2: the same as of the block's first sample.
        rows_B2: of user and item.
        is_learned_B: whether each sample is about to be learned.
    """
    unseen_B2 = is_new_B2.copy()
    for column in range(2):
        # Few are, and of these all but the first that is learned have been trained by it.
        new_N = np.flatnonzero(unseen_B2[:, column] & (rows_B2[:, column] > 0))
        learned_N = new_N[is_learned_B[new_N] != 0]
        if len(learned_N):
            rows_N = rows_B2[new_N, column]
            rows_U, first_U = np.unique(rows_B2[learned_N, column], return_index=True)
            at_N = np.minimum(np.searchsorted(rows_U, rows_N), len(rows_U) - 1)
            unseen_B2[new_N, column] = (rows_U[at_N] != rows_N) | (new_N <= learned_N[first_U[at_N]])
    return unseen_B2


def content_made(fast: FastPart | None, found: Found | None, unseen_B: np.ndarray) -> np.ndarray | None:
    """Whether nothing was known of each sample's item but its content, and that was used; None where it never is.

    Args:
        fast: the fast part.
        found: what the samples have.
        unseen_B: whether their items had never been trained.
    """
    starts = None if fast is None else next((one for one in fast.starts if one.kind == "item"), None)
    if starts is None or found is None:
        return None
    places_B = starts.places(found.values.kinds_N)
    made_B: np.ndarray = (found.values.rows_N[places_B] < 0) | (unseen_B & starts.has_pool)
    return made_B


def deep_part(recipe: Recipe, table: Table, device: "torch.device | None" = None) -> "DeepPart | None":
    """A new deep part, if the recipe has one, whose rows are the table's; on a device, or as `learner.device` says."""
    if not recipe.has_deep:
        return None
    from learner.adaf2m2.deep import DeepPart

    return DeepPart(recipe, table, device)


def served_deep_part(recipe: Recipe, table: Table) -> "ServedDeep | None":
    """The same as a scorer holds it."""
    if not recipe.has_deep:
        return None
    from learner.adaf2m2.served import ServedDeep

    return ServedDeep(recipe, table)


def check_device(recipe: Recipe) -> None:
    """Whether there is the device that the deep part is to compute on, if the recipe has one.

    Raises:
        DeviceError: there is not.
    """
    if recipe.has_deep:
        from learner.adaf2m2.device.choice import chosen_device

        chosen_device(recipe.learner.device)


def limit_threads(recipe: Recipe, num_threads: int) -> None:
    """How many threads the deep part may use in this process, if the recipe has one."""
    if recipe.has_deep:
        import torch

        torch.set_num_threads(num_threads)


def warm_up(recipe: Recipe, *, learns: bool = True) -> float:
    """Compile, or load from the cache, whatever is compiled of a model; returns the seconds that it took.

    Args:
        recipe: of the model.
        learns: whether it learns here, or predicts only.
    """
    began = time.perf_counter()
    warm_up_fast()
    if recipe.has_deep:
        from learner.adaf2m2.kernels.warm_up import warm_up as warm_up_deep

        warm_up_deep(learns=learns)
    return time.perf_counter() - began


def deep_table(recipe: Recipe) -> Table:
    """A table of the deep part's values alone."""
    min_counts = [field.min_count for field in recipe.fields]
    fast = recipe.fast
    return Table(groups_of(recipe), min_counts, fast.max_rows, recipe.learner.seed, fast.counted_ids)


def served_deep_table(recipe: Recipe) -> Table:
    """The same as a scorer holds it."""
    return Table(served_groups(recipe), [1] * len(recipe.fields), recipe.fast.max_rows)


def ids_of(occurrences: Occurrences) -> Ids:
    """Occurrences as the fast part takes them."""
    return Ids(occurrences.offsets_B1, occurrences.keys_N, occurrences.fields_N, occurrences.weights_N)


def look_up(
    recipe: Recipe,
    part: FastPredictor,
    samples: Samples,
    values: Ids,
    learning: bool | np.ndarray,
    crosses: Ids | None = None,
) -> Found:
    """Rows of a block's values, of their crosses, and of the items of its histories, if there are vectors of these.

    Args:
        recipe: of the model.
        part: whose rows.
        samples: B of them.
        values: the occurrences of their values.
        learning: of all, or of each: whether new ids get rows.
        crosses: of `FastPredictor.crosses_of`, if they are at hand.
    """
    has_vectors = bool(recipe.histories) and recipe.fast.history_items > 0
    entries = entries_of(samples, recipe.fast.history_items) if has_vectors else None
    return part.look_up(
        values,
        samples.rows_B["ts"],
        learning=learning,
        crosses=crosses,
        names={starts.kind: samples.item_ids if starts.kind == "item" else samples.user_ids for starts in part.starts},
        entries=entries,
    )


def counts_of(samples: Samples) -> np.ndarray:
    """Counters of user and item, shape (B, C)."""
    counts_BC: np.ndarray = np.concatenate([samples.rows_B["user_counts"], samples.rows_B["item_counts"]], axis=1)
    return counts_BC


def deep_alone(deep_B: np.ndarray) -> Predicted:
    """What is predicted without a fast part."""
    nothing_BK = np.zeros((len(deep_B), 0), np.float32)
    return Predicted(nothing_BK, nothing_BK, np.zeros_like(deep_B), deep_B, deep_B, deep_B)
