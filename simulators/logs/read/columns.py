"""Columns of mapped rows, of the values of entries; null where a value is not one that an event may have."""

import polars as pl

from simulators.logs.read.entries import Entry
from simulators.logs.read.parts import RESERVED
from simulators.logs.read.times import to_ms

MAX_ID = 256
MAX_TS = 2**53
_MAX_POSITION = 1 << 20
_MAX_VALUE = 1e15


def text(entry: Entry) -> pl.Expr:
    """As text; an empty one is none."""
    written = pl.col(entry.label).cast(pl.String)
    return pl.when(written != "").then(written)


def truth(entry: Entry) -> pl.Expr:
    """Whether it holds; what is not known does not."""
    value = pl.col(entry.label)
    if entry.dtype == pl.String:
        return value.str.to_lowercase().is_in(["1", "true", "t", "yes", "y", "1.0"]).fill_null(False)
    return value.cast(pl.Boolean, strict=False).fill_null(False)


def ms(entry: Entry, unit: str, zone: str) -> pl.Expr:
    """As event time."""
    return to_ms(pl.col(entry.label), entry.dtype, unit, zone)


def value(entry: Entry, k: int) -> pl.Expr:
    """Value of the k-th feedback; none where it is not one that an event may have."""
    number = pl.col(entry.label).cast(pl.Float64, strict=False)
    return pl.when(number.is_between(-_MAX_VALUE, _MAX_VALUE)).then(number).alias(f"value.{k}")


def none(name: str, dtype: pl.DataType | type[pl.DataType] = pl.String) -> pl.Expr:
    """A column of nothing."""
    return pl.lit(None, dtype).alias(name)


def no_feedback(k: int, *, has_time: bool) -> list[pl.Expr]:
    """Columns of the k-th feedback where there is none."""
    columns = [pl.lit(False).alias(f"feedback.{k}"), none(f"value.{k}", pl.Float64())]
    return [*columns, none(f"ts.{k}", pl.Int64())] if has_time else columns


def reserved(name: str, entry: Entry) -> pl.Expr:
    """A reserved key, null where its value is not one that an event may have."""
    if RESERVED[name] == pl.String:
        word = text(entry)
        return pl.when(word.str.len_chars() <= MAX_ID).then(word).alias(name)
    number = pl.col(entry.label).cast(pl.Float64, strict=False)
    bounds = {"position": (0, _MAX_POSITION), "served_version": (0, MAX_TS)}.get(name, (0, 1))
    allowed = number.is_between(*bounds, closed="right" if name == "propensity" else "both")
    return pl.when(allowed).then(number).cast(RESERVED[name]).alias(name)
