"""Values of a sample's fields: text, lists of text and numbers, from whatever a column holds."""

import polars as pl

from simulators.logs.mapping import FieldEntry
from simulators.logs.read.entries import Entry

_WORD = r"[\p{L}\p{N}']+"
_MAX_NUMBER = 1e9
"""Greatest amount of a numeric feature that an event may carry."""

DTYPES = {"id": pl.String(), "categorical": pl.String(), "multi": pl.List(pl.String), "numeric": pl.Float64()}


def field_value(field: FieldEntry, entry: Entry) -> pl.Expr:
    """The expression that makes an entry's column, named by its label, the field's values; null: none."""
    value = pl.col(entry.label)
    is_list = isinstance(entry.dtype, pl.List | pl.Array)
    if field.kind == "multi":
        return (value.cast(pl.List(pl.String)) if is_list else _values(field, value)).list.head(field.limit)
    if is_list:
        value = value.cast(pl.List(pl.String)).list.join(",")
    if field.kind == "numeric":
        number = _matched(field, value).cast(pl.Float64, strict=False)
        return pl.when(number.is_between(-_MAX_NUMBER, _MAX_NUMBER)).then(number)
    return _matched(field, value.cast(pl.String))


def _matched(field: FieldEntry, value: pl.Expr) -> pl.Expr:
    return value.cast(pl.String).str.extract(field.match, 1) if field.match else value


def _values(field: FieldEntry, value: pl.Expr) -> pl.Expr:
    text = _matched(field, value.cast(pl.String))
    if field.words:
        return text.str.to_lowercase().str.extract_all(_WORD if field.words is True else field.words)
    if field.split:
        parts = text.str.split(field.split).list.eval(pl.element().str.strip_chars())
        return parts.list.eval(pl.element().filter(pl.element() != ""))
    return pl.when(text.is_not_null()).then(pl.concat_list(text))
