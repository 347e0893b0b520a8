"""Crosses: the pairs of values of two fields that occur together, as ids of their own.

Legend: C declared crosses, B samples, N occurrences of values, M of crosses.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.fast.config import CrossSettings
from learner.tables.compiled import compiled_maker
from learner.tables.hashing import cross_key
from learner.tables.ids import Ids
from learner.tables.index import NO_KEY


class CrossPlan(NamedTuple):
    """Which fields are crossed."""

    first_C: np.ndarray
    second_C: np.ndarray
    salt_C: np.ndarray
    """Of the names, so that a cross keeps its ids when others are declared before it."""


def plan_of(crosses: Sequence[CrossSettings], fields: Sequence[FieldSettings]) -> CrossPlan:
    """The declared crosses by the fields' numbers.

    Raises:
        ValueError: a cross of a field that is not declared.
    """
    names = [field.name for field in fields]
    unknown = sorted({name for cross in crosses for name in cross.fields} - set(names))
    if unknown:
        raise ValueError(
            f"crosses name fields that are not declared: {', '.join(unknown)}; there are {', '.join(names)}"
        )
    return CrossPlan(
        np.array([names.index(cross.fields[0]) for cross in crosses], np.uint8),
        np.array([names.index(cross.fields[1]) for cross in crosses], np.uint8),
        np.array([_salt(*cross.fields) for cross in crosses], np.uint64),
    )


def _salt(first: str, second: str) -> int:
    return int.from_bytes(blake2b(f"{first}\0{second}".encode(), digest_size=8).digest(), "little")


@compiled_maker
def cross(values: Ids, plan: CrossPlan) -> Ids:
    """All pairs of values of each declared cross, sample by sample.

    Each counts whole: a film of three genres tells three things of a user's taste, and not a third of each.
    """
    offsets_B1, keys_N, kinds_N, _ = values
    end_B1, room = np.zeros(len(offsets_B1), np.int64), _most_pairs(values, plan)
    pair_keys, pair_kinds, pair_weights = (
        np.empty(room, np.uint64),
        np.empty(room, np.uint8),
        np.empty(room, np.float32),
    )
    m = 0
    for b in range(len(offsets_B1) - 1):
        for c in range(len(plan.salt_C)):
            for i in range(offsets_B1[b], offsets_B1[b + 1]):
                if kinds_N[i] != plan.first_C[c] or keys_N[i] == NO_KEY:
                    continue
                for j in range(offsets_B1[b], offsets_B1[b + 1]):
                    if kinds_N[j] == plan.second_C[c] and keys_N[j] != NO_KEY:
                        pair_keys[m] = cross_key(keys_N[i], keys_N[j], plan.salt_C[c])
                        pair_kinds[m] = c
                        pair_weights[m] = 1.0
                        m += 1
        end_B1[b + 1] = m
    return Ids(end_B1, pair_keys[:m].copy(), pair_kinds[:m].copy(), pair_weights[:m].copy())


@compiled_maker
def _most_pairs(values: Ids, plan: CrossPlan) -> int:
    """As many pairs as there are at most."""
    num_pairs, count_F = 0, np.zeros(256, np.int64)
    for b in range(len(values.offsets_B1) - 1):
        for n in range(values.offsets_B1[b], values.offsets_B1[b + 1]):
            count_F[values.kinds_N[n]] += 1
        for c in range(len(plan.salt_C)):
            num_pairs += count_F[plan.first_C[c]] * count_F[plan.second_C[c]]
        for n in range(values.offsets_B1[b], values.offsets_B1[b + 1]):
            count_F[values.kinds_N[n]] = 0
    return num_pairs
