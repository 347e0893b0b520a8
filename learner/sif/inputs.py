"""What a sample's tokens are made of: its fields, the hour and the weekday, declared pairs; in groups, then in slots.

HGAQ's groups (SIF, "Sample Tokenizer"): user, item, context, cross. Group g of |F_g| inputs has K_g = ceil(|F_g| / B)
sub-tokens, each of a slice of its inputs. Counters as of the impression are no inputs: whoever encodes, encodes before
the call that reads them.

Legend: B samples, I inputs, N values, T slots, S inputs of a slot at most.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings, SifSettings
from learner.fast.config import CrossSettings
from learner.fast.inputs.crosses import cross
from learner.fast.inputs.crosses import plan_of as cross_plan_of
from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.samples.columns import Samples
from learner.samples.keys import value_key
from learner.samples.layout import Layout
from learner.tables.ids import Ids

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_HOURS, _WEEKDAYS = (
    np.array([value_key(f"\0{name}", str(n)) for n in range(count)], np.uint64)
    for name, count in (("hour", 24), ("weekday", 7))
)
_NUM_TIMES = 2


class Inputs(NamedTuple):
    """Values of B samples, by sample and then by input, each as a row of the tokenizer's table."""

    buckets_N: np.ndarray
    """int64, below R."""
    weights_N: np.ndarray
    """float32: 1 / n of an input of n values."""
    sizes_BI: np.ndarray
    """How many values; int64."""

    def take(self, chosen_B: np.ndarray) -> "Inputs":
        """Those of the samples where `chosen_B` (booleans) is true."""
        of_N = np.repeat(chosen_B, self.sizes_BI.sum(axis=1))
        return Inputs(self.buckets_N[of_N], self.weights_N[of_N], self.sizes_BI[chosen_B])


def slots_of(fields: Sequence[FieldSettings], settings: SifSettings) -> list[list[int]]:
    """Numbers of the inputs of each slot: fields, then hour and weekday, then crosses.

    >>> fields = [FieldSettings("user_id", "user", "id"), FieldSettings("item_id", "item", "id")]
    >>> slots_of(fields, SifSettings(crosses=(("user_id", "item_id"),)))
    [[0], [1], [2, 3], [4]]
    """
    groups: dict[str, list[int]] = {"user": [], "item": [], "context": []}
    for n, field in enumerate(fields):
        groups[field.group].append(n)
    first = len(fields)
    groups["context"] += range(first, first + _NUM_TIMES)
    groups["cross"] = list(range(first + _NUM_TIMES, first + _NUM_TIMES + len(settings.crosses)))
    size = settings.fields_per_token
    return [of[at : at + size] for of in groups.values() for at in range(0, len(of), size)]


class InputReader:
    """Reads the inputs of samples.

    Args:
        fields: declared fields.
        settings: which crosses, and R.

    Raises:
        ValueError: a cross is of a field that is not declared.
    """

    def __init__(self, fields: Sequence[FieldSettings], settings: SifSettings) -> None:
        self._plan = plan_of(Layout(fields, ()))
        self._crosses = cross_plan_of([CrossSettings(pair) for pair in settings.crosses], fields)
        self._num_fields = len(fields)
        self._num_crosses = len(settings.crosses)
        self._num_buckets = np.uint64(settings.buckets)
        self.num_inputs = len(fields) + _NUM_TIMES + len(settings.crosses)
        """I."""

    def read(self, samples: Samples) -> Inputs:
        """Inputs of B samples."""
        found = occurrences_of(samples, self._plan)
        numbers_B, ts_B = np.arange(len(samples)), samples.rows_B["ts"]
        keys = [found.keys_N, _HOURS[ts_B // _HOUR_MS % 24], _WEEKDAYS[ts_B // _DAY_MS % 7]]
        samples_N = [np.repeat(numbers_B, np.diff(found.offsets_B1)), numbers_B, numbers_B]
        at = [found.fields_N.astype(np.int64), *(np.full(len(samples), self._num_fields + n) for n in (0, 1))]
        if self._num_crosses:
            pairs = cross(Ids(found.offsets_B1, found.keys_N, found.fields_N, found.weights_N), self._crosses)
            keys.append(pairs.keys_N)
            samples_N.append(np.repeat(numbers_B, np.diff(pairs.offsets_B1)))
            at.append(self._num_fields + _NUM_TIMES + pairs.kinds_N.astype(np.int64))
        place_N = np.concatenate(samples_N) * self.num_inputs + np.concatenate(at)
        order_N = np.argsort(place_N, kind="stable")
        sizes_N = np.bincount(place_N, minlength=len(samples) * self.num_inputs)
        buckets_N = (np.concatenate(keys)[order_N] % self._num_buckets).astype(np.int64)
        weights_N = (1 / sizes_N[place_N[order_N]]).astype(np.float32)
        return Inputs(buckets_N, weights_N, sizes_N.reshape(len(samples), self.num_inputs))
