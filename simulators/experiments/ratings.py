"""A log as numbers: who rated what, how, and which values the fields of users and items have.

Legend: N samples, E users or items, R rows of the table of embeddings, V values.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from learner.config import FieldSettings
from simulators.logs.errors import DataError
from simulators.logs.log import FeatureTable, Log
from stream.events import RawFeature

PAPER_FIELDS = ("user_id", "age", "gender", "occupation", "item_id", "year", "title", "genres")
"""AdaF2M2, section 4.1."""


class Side(NamedTuple):
    """Values of the fields of users, or of items: entity by entity, and field by field."""

    fields_F: tuple[FieldSettings, ...]
    """Fields of this side, in order; the id's is the first."""
    offsets_EF: np.ndarray
    """Where each field of each entity begins in `rows_V`, and the end: shape (E * F + 1,), int64."""
    rows_V: np.ndarray
    """Row of each value, int64."""
    texts_V: list[str]
    """The values themselves."""
    ids_E: list[str]

    @property
    def id_rows(self) -> np.ndarray:
        """Row of each entity's id, shape (E,)."""
        rows_E: np.ndarray = self.rows_V[self.offsets_EF[: -1 : len(self.fields_F)]]
        return rows_E


class Ratings(msgspec.Struct, frozen=True):
    """N samples in the order of time."""

    users: Side
    items: Side
    users_N: np.ndarray
    """Number of the user, from 0; int64."""
    items_N: np.ndarray
    labels_N: np.ndarray
    """float32, 0 or 1."""
    ts_N: np.ndarray
    """Event time, UTC ms."""
    num_rows: int
    """R: of all distinct values, and row 0, which no value has."""
    source: str

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def fields(self) -> tuple[FieldSettings, ...]:
        """Those of users, then those of items."""
        return (*self.users.fields_F, *self.items.fields_F)

    def with_fields(self, names: Sequence[str]) -> "Ratings":
        """The same samples with some of the fields; rows keep their numbers."""
        users, items = (_chosen(side, names) for side in (self.users, self.items))
        return msgspec.structs.replace(self, users=users, items=items)


def _chosen(side: Side, names: Sequence[str]) -> Side:
    num_fields = len(side.fields_F)
    keep_F = np.array([field.name in names for field in side.fields_F])
    sizes_EF = np.diff(side.offsets_EF).reshape(-1, num_fields)
    keep_V = np.repeat(np.tile(keep_F, len(side.ids_E)), sizes_EF.ravel())
    offsets = np.concatenate([[0], np.cumsum(sizes_EF[:, keep_F].ravel())])
    texts = [text for text, keep in zip(side.texts_V, keep_V, strict=True) if keep]
    fields = tuple(field for field, keep in zip(side.fields_F, keep_F, strict=True) if keep)
    return Side(fields, offsets, side.rows_V[keep_V], texts, side.ids_E)


def ratings_of(log: Log, fields: Sequence[FieldSettings], *, positive: int = 0) -> Ratings:
    """Read a log of impressions that are known for good once they are shown, as ratings are.

    Args:
        log: whose features do not change with time.
        fields: which are taken; each belongs to users or to items, and none is numeric.
        positive: number of the feedback rule that makes a label 1.

    Raises:
        DataError: the log's features are dated, or a field is of a kind that has no place here.
    """
    if log.users.is_dated or log.items.is_dated:
        raise DataError(
            f"log {log.name}: its features change with time, and an offline table has one value for all times"
        )
    for field in fields:
        if field.group == "context" or field.kind == "numeric":
            raise DataError(
                f"field {field.name}: an offline table takes id, categorical and multi fields of users and items, "
                f"got {field.kind} of {field.group}"
            )
    rows = pl.concat(list(log.stretches())).filter(pl.col("shown"))
    numbers: dict[tuple[str, str], int] = {}
    sides: list[Side] = []
    columns: list[np.ndarray] = []
    for group, table in (("user", log.users), ("item", log.items)):
        column = rows[f"{group}_id"]
        ids = column.unique(maintain_order=True)
        columns.append(column.cast(pl.Enum(ids)).to_physical().to_numpy().astype(np.int64))
        chosen = sorted((f for f in fields if f.group == group), key=lambda field: field.kind != "id")
        sides.append(_side(chosen, ids.to_list(), table, numbers))
    labels_N = rows[f"feedback.{positive}"].to_numpy().astype(np.float32)
    (users, items), (users_N, items_N) = sides, columns
    return Ratings(users, items, users_N, items_N, labels_N, rows["ts"].to_numpy(), len(numbers) + 1, log.source)


def _side(
    fields: Sequence[FieldSettings], ids: list[str], table: FeatureTable, numbers: dict[tuple[str, str], int]
) -> Side:
    offsets, rows, texts = [0], [], []
    for entity in ids:
        known = table.get(entity, 0)
        for field in fields:
            values = [entity] if field.kind == "id" else _values(known, field.name)
            rows += [numbers.setdefault((field.name, value), len(numbers) + 1) for value in values]
            texts += values
            offsets.append(len(rows))
    return Side(tuple(fields), np.array(offsets), np.array(rows, np.int64), texts, ids)


def _values(known: Mapping[str, RawFeature], name: str) -> list[str]:
    value = known.get(name)
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
