"""What belongs where: fields to groups, groups to components, values to columns of the tables.

Legend: F fields, C crosses, K components.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.fast.config import FastRecipe, GroupSettings, MaskFields
from learner.fast.inputs.crosses import plan_of
from learner.tables.table import Group

USER, ATTRIBUTES, ITEM, CONTENT = 0, 1, 2, 3
"""The four sums of first-order weights, first among the components; the same numbers are those of the four vectors."""
NUM_SIDES = 4
NUM_PRODUCTS = 4
WEIGHT, SQUARES, FACTORS = 0, 1, 2
"""Columns of a row where it learns: w, G, then D of v, then D of H. Rows of crosses have the first two."""
SERVED_FACTORS = 1
"""A row that only predicts has no sums of squares: w, then D of v."""


_LEAST_VARIANCE = 1e-6
"""Of a user's weight and factors."""
USER_LEVEL, ITEM_LEVEL = 0, 1


class FieldGroup(IntEnum):
    """Fields that are learned alike."""

    USER = 0
    ATTRIBUTES = 1
    CONTEXT = 2
    """First-order weights alone, summed up with the attributes': where something is shown says nothing of a taste."""
    ITEM = 3
    CONTENT = 4


_SIDES = (USER, ATTRIBUTES, ATTRIBUTES, ITEM, CONTENT)
"""By group."""


_MASKED: dict[MaskFields, tuple[FieldGroup, ...]] = {
    "item_id": (FieldGroup.ITEM,),
    "user_id": (FieldGroup.USER,),
    "ids": (FieldGroup.USER, FieldGroup.ITEM),
    "all": tuple(FieldGroup),
}


def group_of(field: FieldSettings) -> FieldGroup:
    """The group of a field.

    >>> group_of(FieldSettings("user_id", "user", "id")), group_of(FieldSettings("age", "user", "categorical"))
    (<FieldGroup.USER: 0>, <FieldGroup.ATTRIBUTES: 1>)
    """
    if field.group == "context":
        return FieldGroup.CONTEXT
    if field.group == "user":
        return FieldGroup.USER if field.name == "user_id" else FieldGroup.ATTRIBUTES
    return FieldGroup.ITEM if field.name == "item_id" else FieldGroup.CONTENT


def component_names(settings: FastRecipe, *, has_deep: bool) -> list[str]:
    """Names of the K components, in their order.

    >>> component_names(FastRecipe(), has_deep=True)[4:]
    ['user.item', 'user.content', 'attributes.item', 'attributes.content', 'bias', 'deep']
    """
    crosses = [f"{cross.fields[0]} x {cross.fields[1]}" for cross in settings.crosses]
    products = [f"{ours}.{theirs}" for ours in ("user", "attributes") for theirs in ("item", "content")]
    products += [f"{name}.{theirs}" for name in settings.histories for theirs in ("item", "content")]
    return ["user", "attributes", "item", "content", *crosses, *products, "bias", *(["deep"] if has_deep else [])]


class Constants(NamedTuple):
    """Numbers that compiled code is told."""

    side_F: np.ndarray
    has_factors_F: np.ndarray
    """uint8: whether a field's values have vectors."""
    prior_F: np.ndarray
    rate_F: np.ndarray
    num_crosses: int
    cross_prior: np.float32
    square_prior: np.float32
    keep: np.float32
    """Of a first-order weight's evidence, with each sample."""
    centre: np.float32
    bias_rate: float
    has_deep: bool
    has_gate: bool
    has_norms: bool
    gate_lr: float
    gate_batch: int
    has_levels: bool
    level_rate: float
    level_prior: float
    is_weighted: bool
    """Whether samples weigh as in the fake-negative weighted loss."""
    num_masks: int
    may_mask_F: np.ndarray
    """uint8: whether a field may be masked."""
    cross_fields_C2: np.ndarray
    factors_at: int
    """Column at which a row's vector begins."""
    mask_low: float
    mask_high: float
    mask_weight: np.float32
    num_histories: int
    history_rate: np.float32
    population_rate: np.float32
    least_variance: np.float32


def constants_of(
    settings: FastRecipe,
    fields: Sequence[FieldSettings],
    *,
    has_deep: bool,
    is_weighted: bool = False,
    learns: bool = True,
) -> Constants:
    """The settings, per field, for rows that learn, or only predict.

    Raises:
        ValueError: a cross of a field that is not declared.
    """
    plan = plan_of(settings.crosses, fields)
    groups = [group_of(field) for field in fields]
    by_group: list[GroupSettings] = [
        settings.user,
        settings.attributes,
        settings.context,
        settings.item,
        settings.content,
    ]
    return Constants(
        np.array([_SIDES[group] for group in groups], np.int64),
        np.array([group != FieldGroup.CONTEXT for group in groups], np.uint8),
        np.array([by_group[group].prior for group in groups], np.float32),
        np.array([by_group[group].rate for group in groups], np.float32),
        len(settings.crosses),
        np.float32(settings.cross_prior),
        np.float32(settings.square_prior),
        np.float32(1.0 - settings.forget),
        np.float32(settings.centre),
        float(settings.bias_rate),
        has_deep,
        settings.gate,
        settings.gate_norms,
        float(settings.gate_lr),
        settings.gate_batch,
        settings.levels,
        float(settings.level_rate),
        float(settings.level_prior),
        is_weighted,
        settings.num_masks,
        np.array([group in _MASKED[settings.mask_fields] for group in groups], np.uint8),
        np.stack([plan.first_C, plan.second_C], axis=1).astype(np.int64),
        FACTORS if learns else SERVED_FACTORS,
        float(settings.mask_low),
        float(settings.mask_high),
        np.float32(settings.mask_weight),
        len(settings.histories),
        np.float32(settings.history_rate),
        np.float32(settings.population_rate),
        np.float32(_LEAST_VARIANCE),
    )


def num_covariances(settings: FastRecipe) -> int:
    """X, numbers of the covariance of a user's weight and factors; 0 where none is kept.

    >>> num_covariances(FastRecipe(factors=2, kalman=True))
    6
    """
    return (settings.factors + 1) * (settings.factors + 2) // 2 if settings.kalman else 0


def value_groups(settings: FastRecipe, fields: Sequence[FieldSettings]) -> list[Group]:
    """Values of a row of the table: w and v learned, G and H their sums of squared gradients."""
    stds = tuple(0.0 if group_of(field) == FieldGroup.USER else settings.init_std for field in fields)
    return [Group("w", 1), Group("G", 1), Group("v", settings.factors, stds=stds), Group("H", settings.factors)]


def cross_value_groups() -> list[Group]:
    """Values of a row of the crosses' table."""
    return [Group("w", 1), Group("G", 1)]


def served_groups(settings: FastRecipe) -> list[Group]:
    """Values of a row of the table that a prediction needs; of a cross it is the first alone."""
    return [Group("w", 1), Group("v", settings.factors)]
