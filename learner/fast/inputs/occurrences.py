"""Columns of samples -> occurrences: which value of which field, with which weight, in which sample.

Legend: B samples, F fields, N occurrences, M keys of multi-valued fields.
"""

from typing import NamedTuple

import numpy as np

from learner.samples.columns import Samples
from learner.samples.keys import NO_KEY, value_key
from learner.samples.layout import Layout
from learner.tables.compiled import compiled, compiled_maker
from learner.tables.hashing import cross_key
from learner.tables.memory import plain

SINGLE, NUMERIC, MULTI = 0, 1, 2
_FIRST_BUCKET, _SALT = 1 << 20, np.uint64(0)
_KINDS = {"id": SINGLE, "categorical": SINGLE, "numeric": NUMERIC, "multi": MULTI}


class Occurrences(NamedTuple):
    """Of B samples, by sample and then by field."""

    keys_N: np.ndarray
    """uint64."""
    fields_N: np.ndarray
    """uint8."""
    weights_N: np.ndarray
    """float32: 1, or 1/n for a value of n."""
    offsets_B1: np.ndarray
    """Where each sample's begin, and the end; int64."""
    sizes_BF: np.ndarray
    """How many there are; 0 where a sample lacks a field; int64."""


def take(occurrences: Occurrences, chosen_B: np.ndarray) -> Occurrences:
    """Those of the samples where `chosen_B` (booleans) is true."""
    sizes_B = np.diff(occurrences.offsets_B1)
    of_N = np.repeat(chosen_B, sizes_B)
    offsets_B1 = np.concatenate([[0], np.cumsum(sizes_B[chosen_B])])
    keys_N, fields_N, weights_N = (column[of_N] for column in occurrences[:3])
    return Occurrences(keys_N, fields_N, weights_N, offsets_B1, occurrences.sizes_BF[chosen_B])


class Plan(NamedTuple):
    """Where each field's values are."""

    kinds_F: np.ndarray
    columns_F: np.ndarray
    """Among the fields of its kind."""
    numeric_keys_F: np.ndarray


def plan_of(layout: Layout) -> Plan:
    """The plan of a layout."""
    of_kind = {SINGLE: layout.single, NUMERIC: layout.numeric, MULTI: layout.multi}
    kinds = [_KINDS[field.kind] for field in layout.fields]
    columns = [of_kind[kind].index(n) for n, kind in enumerate(kinds)]
    keys = [value_key(field.name, "") if field.kind == "numeric" else NO_KEY for field in layout.fields]
    return Plan(np.array(kinds), np.array(columns), np.array(keys, np.uint64))


def occurrences_of(samples: Samples, plan: Plan) -> Occurrences:
    """Occurrences of a block of samples."""
    rows = samples.rows_B
    return Occurrences(
        *_flatten(
            np.ascontiguousarray(rows["keys"]),
            np.ascontiguousarray(rows["numbers"]),
            np.ascontiguousarray(rows["sizes"]),
            plain(samples.keys_M, np.uint64),
            plan,
        )
    )


@compiled
def number_key(field_key: np.uint64, value: float) -> np.uint64:
    """Key of a number: that of its bucket, half an octave of 1 + |x| wide, so that any scale makes a few dozen."""
    bucket = np.floor(2.0 * np.log2(1.0 + np.abs(value)))
    if value < 0:
        bucket = -1.0 - bucket
    return cross_key(field_key, np.uint64(_FIRST_BUCKET + np.int64(bucket)), _SALT)


@compiled_maker
def _flatten(
    single_BK: np.ndarray, numbers_BK: np.ndarray, sizes_BK: np.ndarray, keys_M: np.ndarray, plan: Plan
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    num_samples, num_fields = len(single_BK), len(plan.kinds_F)
    most = num_samples * num_fields + len(keys_M)
    keys_N, fields_N = np.empty(most, np.uint64), np.empty(most, np.uint8)
    weights_N = np.empty(most, np.float32)
    offsets_B1 = np.zeros(num_samples + 1, np.int64)
    sizes_BF = np.zeros((num_samples, num_fields), np.int64)
    n = m = 0
    for b in range(num_samples):
        for f in range(num_fields):
            column, first = plan.columns_F[f], n
            if plan.kinds_F[f] == SINGLE:
                if single_BK[b, column] != NO_KEY:
                    keys_N[n], weights_N[n] = single_BK[b, column], 1.0
                    n += 1
            elif plan.kinds_F[f] == NUMERIC:
                value = numbers_BK[b, column]
                if not np.isnan(value):
                    keys_N[n], weights_N[n] = number_key(plan.numeric_keys_F[f], value), 1.0
                    n += 1
            else:
                size = np.int64(sizes_BK[b, column])
                for _ in range(size):
                    keys_N[n], weights_N[n] = keys_M[m], 1.0 / size
                    n, m = n + 1, m + 1
            fields_N[first:n] = f
            sizes_BF[b, f] = n - first
        offsets_B1[b + 1] = n
    return keys_N[:n], fields_N[:n], weights_N[:n], offsets_B1, sizes_BF
