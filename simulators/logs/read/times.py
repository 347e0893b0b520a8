"""Time as a file has it -> event time, integer UTC milliseconds."""

import polars as pl

from simulators.logs.mapping import UNITS

_PER_MS = {"us": 1_000, "ns": 1_000_000}
_MS_PER = {"s": 1_000, "ms": 1}


def to_ms(value: pl.Expr, dtype: pl.DataType, unit: str, zone: str) -> pl.Expr:
    """Event time; null where the value is no time of that unit.

    Args:
        value: a column or expression.
        dtype: its type.
        unit: as in a mapping; a column of dates or times has its own.
        zone: time zone of what names none; empty: UTC.

    >>> pl.select(to_ms(pl.lit("2020-01-01"), pl.String(), "%Y-%m-%d", "Asia/Shanghai")).item()
    1577808000000
    """
    if isinstance(dtype, pl.Date | pl.Datetime):
        aware = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        return _epoch_ms(value.cast(pl.Datetime("ms")) if isinstance(dtype, pl.Date) else value, aware, zone)
    if unit in UNITS:
        return _from_number(value, dtype, unit)
    if unit == "iso":
        return _from_iso(value.cast(pl.String), zone)
    text = value.cast(pl.String)
    aware = "%z" in unit or "%#z" in unit
    return _epoch_ms(text.str.strptime(pl.Datetime("ms"), unit, strict=False), aware, zone)


def _epoch_ms(value: pl.Expr, aware: bool, zone: str) -> pl.Expr:
    if not aware:
        # Twice an hour that a clock shows twice is its first; an hour that it leaps over does not exist.
        value = value.dt.replace_time_zone(zone or "UTC", ambiguous="earliest", non_existent="null")
    return value.dt.epoch("ms")


def _from_iso(text: pl.Expr, zone: str) -> pl.Expr:
    """ISO 8601: a date, or date and time with `T` or a space between, with or without a zone."""
    text = text.str.replace(" ", "T", literal=True)
    aware = text.str.strptime(pl.Datetime("ms", "UTC"), "%+", strict=False).dt.epoch("ms")
    naive = text.str.strptime(pl.Datetime("ms"), "%Y-%m-%dT%H:%M:%S%.f", strict=False)
    day = text.str.strptime(pl.Date, "%Y-%m-%d", strict=False).cast(pl.Datetime("ms"))
    return pl.coalesce(aware, _epoch_ms(pl.coalesce(naive, day), aware=False, zone=zone))


def _from_number(value: pl.Expr, dtype: pl.DataType, unit: str) -> pl.Expr:
    """Whole numbers keep their digits, which a float may not hold; 1.5 seconds keep their half."""
    part = value.cast(pl.Float64, strict=False)
    part = part / _PER_MS[unit] if unit in _PER_MS else (part * _MS_PER[unit]).round()
    from_float = part.floor().cast(pl.Int64, strict=False)
    if dtype.is_float() or dtype.is_decimal():
        return from_float
    whole = value.cast(pl.Int64, strict=False)
    return pl.coalesce(whole // _PER_MS[unit] if unit in _PER_MS else whole * _MS_PER[unit], from_float)
