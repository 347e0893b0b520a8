"""Which files a log is made of, and the columns that its rows have once they are mapped."""

from collections.abc import Sequence

import msgspec
import polars as pl

from simulators.logs.log import ROW_SCHEMA
from simulators.logs.mapping import FieldEntry, Files, Mapping
from simulators.logs.read.fields import DTYPES

HASHES = ("hash.0", "hash.1")
"""Of all of a row's own columns: equal only for rows that are equal."""
RESERVED = {
    "domain": pl.String(),
    "stage": pl.String(),
    "position": pl.Int64(),
    "propensity": pl.Float64(),
    "served_probability": pl.Float64(),
    "served_version": pl.Int64(),
}


class Part(msgspec.Struct, frozen=True):
    """Files whose rows are mapped alike: those of the log, or those of one kind of feedback."""

    label: str
    """As in the mapping: `log`, `feedback.<action>`."""
    files: Files
    texts: dict[str, str]
    """What each row has -> column or expression; those that are not given are left out."""
    unit: str
    zone: str
    rule: int | None = None
    """Which feedback all of these rows are; None: they are the log's."""


def parts_of(mapping: Mapping) -> list[Part]:
    """The log's files, then those of each feedback that has its own."""
    log = mapping.log
    texts = {"user": log.user, "item": log.item, "time": log.time}
    more = {name: getattr(log, name) for name in ("impression", "impression_id", *RESERVED)}
    parts = [Part("log", log, {**texts, **{k: v for k, v in more.items() if v}}, log.unit, log.zone)]
    for k, entry in enumerate(mapping.feedback):
        if entry.files:
            own = {name: getattr(entry, name) or texts[name] for name in texts}
            given = {"when": entry.when, "value": entry.value, "impression_id": entry.impression_id}
            own |= {name: text for name, text in given.items() if text}
            unit = entry.unit or log.unit
            parts.append(Part(f"feedback.{entry.action}", entry, own, unit, log.zone, rule=k))
    return parts


def row_schema(mapping: Mapping, fields: Sequence[FieldEntry]) -> dict[str, pl.DataType | type[pl.DataType]]:
    """Columns of mapped rows.

    Args:
        mapping: whose log it is.
        fields: those whose values the rows have.
    """
    schema: dict[str, pl.DataType | type[pl.DataType]] = dict(ROW_SCHEMA)
    schema |= {name: dtype for name, dtype in RESERVED.items() if getattr(mapping.log, name)}
    schema |= {f"feature.{field.name}": DTYPES[field.kind] for field in fields}
    for k, entry in enumerate(mapping.feedback):
        schema[f"feedback.{k}"] = pl.Boolean
        schema[f"value.{k}"] = pl.Float64
        if entry.delay is None:
            schema[f"ts.{k}"] = pl.Int64
    return schema | dict.fromkeys(HASHES, pl.UInt64)
