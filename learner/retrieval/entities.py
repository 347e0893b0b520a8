"""Users, or items, with the values of their fields, numbered for an embedding table.

Legend: E entities, F fields, V distinct values, N occurrences of values, B entities asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.fast.inputs.occurrences import number_key
from learner.samples.keys import KeyCache, value_key
from learner.samples.layout import FeatureValue


class Bag(NamedTuple):
    """Occurrences of B entities; field f of entity b owns those from `offsets_BF[b * F + f]` up to the next offset."""

    values_N: np.ndarray
    """int64, below V."""
    offsets_BF: np.ndarray
    """int64, flat."""
    weights_N: np.ndarray
    """float32: 1, or 1/n for a value of n."""


class Entities:
    """E entities.

    Args:
        fields: F fields; the first is the id.
        ids: of the entities, by number.
        values_N: number of each value, 0 to V - 1, entity by entity and field by field.
        offsets_EF: where each field of each entity begins in `values_N`, and the end; shape (E * F + 1,).

    Raises:
        ValueError: no fields, a first one that is no id, an id that comes twice, or offsets of another length.
    """

    def __init__(
        self, fields: Sequence[FieldSettings], ids: Sequence[str], values_N: np.ndarray, offsets_EF: np.ndarray
    ) -> None:
        if not fields or fields[0].kind != "id":
            raise ValueError("the first field of users, and of items, must be their id (kind = 'id')")
        self._number = {each: n for n, each in enumerate(ids)}
        if len(self._number) != len(ids):
            raise ValueError(f"ids must differ; of {len(ids)} there are {len(self._number)}")
        if len(offsets_EF) != len(ids) * len(fields) + 1:
            raise ValueError(f"{len(ids)} entities of {len(fields)} fields cannot have {len(offsets_EF)} offsets")
        self.fields = tuple(fields)
        self.num_values = int(values_N.max(initial=-1)) + 1
        self._values_N = values_N.astype(np.int64)
        self._offsets_EF = offsets_EF.astype(np.int64)
        sizes_EF = np.diff(self._offsets_EF)
        self._weights_N = np.repeat(1.0 / np.maximum(sizes_EF, 1), sizes_EF).astype(np.float32)

    def __len__(self) -> int:
        return len(self._number)

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """Numbers of entities, by their ids; int64.

        Raises:
            KeyError: an id that there is not.
        """
        return np.fromiter((self._number[each] for each in ids), np.int64, len(ids))

    def bag(self, entities_B: np.ndarray) -> Bag:
        """Occurrences of some, by number."""
        num_fields = len(self.fields)
        at_BF = (entities_B[:, None] * num_fields + np.arange(num_fields)).ravel()
        starts_BF = self._offsets_EF[at_BF]
        sizes_BF = self._offsets_EF[at_BF + 1] - starts_BF
        offsets_BF = np.cumsum(sizes_BF) - sizes_BF
        from_N = np.arange(sizes_BF.sum()) + np.repeat(starts_BF - offsets_BF, sizes_BF)
        return Bag(self._values_N[from_N], offsets_BF, self._weights_N[from_N])


def entities_of(fields: Sequence[FieldSettings], records: Sequence[Sequence[FeatureValue]]) -> Entities:
    """Entities of values.

    Args:
        fields: F fields; the first is the id.
        records: a value per field of each entity, in order; None where one is missing. An id is a string.

    Raises:
        ValueError: what `Entities` raises, or a record of another length.

    >>> fields = FieldSettings("item_id", "item", "id"), FieldSettings("genres", "item", "multi")
    >>> items = entities_of(fields, [["i1", ["a", "b"]], ["i2", ["b"]]])
    >>> items.num_values, items.bag(np.array([1, 0])).offsets_BF.tolist()
    (4, [0, 1, 2, 3])
    """
    caches = [KeyCache(field.name) for field in fields]
    keys: list[int] = []
    offsets = [0]
    for record in records:
        if len(record) != len(fields):
            raise ValueError(f"record {record[:1]} has {len(record)} values, there are {len(fields)} fields")
        for field, cache, value in zip(fields, caches, record, strict=True):
            keys += _keys(field, cache, value)
            offsets.append(len(keys))
    _, values_N = np.unique(np.array(keys, np.uint64), return_inverse=True)
    return Entities(fields, [str(record[0]) for record in records], values_N, np.array(offsets))


def _keys(field: FieldSettings, cache: KeyCache, value: FeatureValue) -> list[int]:
    if value is None:
        return []
    if field.kind == "numeric":
        return [int(number_key(np.uint64(value_key(field.name, "")), float(value)))]  # type: ignore[arg-type]
    if field.kind == "multi":
        return [cache.key(each) for each in value]  # type: ignore[union-attr]
    return [cache.key(str(value))]
