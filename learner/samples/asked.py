"""Samples of what is asked for: one user, many items. Column by column, as all of them share most values.

The same as `Layout.pack_core` and `of_cores` make one by one, but for texts, which no prediction needs.

Legend: B candidates.
"""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from learner.samples.columns import Samples
from learner.samples.keys import NO_KEY
from learner.samples.layout import HISTORY_ENTRY, FeatureValue, Layout

_NAN = float("nan")


class Shared:
    """One value for all candidates."""

    __slots__ = ("value",)

    def __init__(self, value: FeatureValue) -> None:
        self.value = value


Column = Shared | list[FeatureValue]
"""Of one field: one value for all, or one per candidate; None where one is missing."""


def asked_rows(layout: Layout, num_samples: int) -> np.ndarray:
    """Rows of samples that nobody was shown: what the join says, the keys and the state are zero."""
    rows_B = np.zeros(num_samples, layout.dtype)
    rows_B["imp_key"], rows_B["position"], rows_B["served_version"] = 1, -1, -1
    rows_B["propensity"] = rows_B["served_probability"] = rows_B["served_other"] = _NAN
    rows_B["negative_rate"] = 1.0
    return rows_B


def samples_of(layout: Layout, ts: int, user_id: str, item_ids: Sequence[str], columns: Sequence[Column]) -> Samples:
    """B samples without labels; what the join says, and the state, is zero.

    Args:
        layout: of the samples.
        ts: event time, ms.
        user_id: the user.
        item_ids: B items.
        columns: of the declared fields in order, user and item id left out.
    """
    num_samples = len(item_ids)
    rows_B = asked_rows(layout, num_samples)
    rows_B["ts"] = ts
    user_field, item_field = layout.single[layout.user_column], layout.single[layout.item_column]
    single, multi, numeric = iter(range(len(layout.single))), iter(range(len(layout.multi))), 0
    rest = iter(columns)
    packed: list[Sequence[bytes]] = []
    for n, (field, cache) in enumerate(zip(layout.fields, layout.key_caches, strict=True)):
        if n == user_field:
            rows_B["keys"][:, next(single)] = cache.key(user_id)
            continue
        if n == item_field:
            rows_B["keys"][:, next(single)] = [cache.key(item_id) for item_id in item_ids]
            continue
        column = next(rest)
        if field.kind == "numeric":
            rows_B["numbers"][:, numeric] = _numbers(column)
            numeric += 1
        elif field.kind == "multi":
            keys, sizes = _lists(column, cache.packed, num_samples)
            rows_B["sizes"][:, next(multi)] = sizes
            packed.append(keys)
        elif isinstance(column, Shared):
            rows_B["keys"][:, next(single)] = NO_KEY if column.value is None else cache.key(column.value)  # type: ignore[arg-type]
        else:
            key = cache.key
            rows_B["keys"][:, next(single)] = [NO_KEY if value is None else key(value) for value in column]  # type: ignore[arg-type]
    # Sample by sample, and field by field.
    keys_M = np.frombuffer(b"".join(chain.from_iterable(zip(*packed, strict=True))), "<u8")
    return Samples(layout, rows_B, keys_M, [])


def with_histories(samples: Samples, histories: Sequence[bytes]) -> Samples:
    """The same samples with one user's histories, as they are kept, in the order of their declaration."""
    sizes_H = np.array([len(of) // HISTORY_ENTRY.itemsize for of in histories])
    samples.rows_B["history_starts"], samples.rows_B["history_sizes"] = np.cumsum(sizes_H) - sizes_H, sizes_H
    entries_H = np.frombuffer(b"".join(histories), HISTORY_ENTRY)
    return Samples(samples.layout, samples.rows_B, samples.keys_M, samples.texts, entries_H)


def _numbers(column: Column) -> object:
    if isinstance(column, Shared):
        return _NAN if column.value is None else column.value
    return [_NAN if value is None else value for value in column]


def _lists(column: Column, pack: Callable[[list[str]], bytes], num_samples: int) -> tuple[Sequence[bytes], object]:
    """Keys of each candidate's values, eight bytes each, and how many there are."""
    if isinstance(column, Shared):
        keys = pack(column.value) if column.value else b""  # type: ignore[arg-type]
        return [keys] * num_samples, len(keys) // 8
    packed = [pack(value) if value else b"" for value in column]  # type: ignore[arg-type]
    return packed, [len(keys) // 8 for keys in packed]


__all__ = ["Column", "Shared", "samples_of", "with_histories"]
