"""JSON Lines -> frames of text and lists of text; nested objects become columns `outer.inner`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from simulators.logs.read.files import read_blocks
from simulators.logs.read.rejects import PROBLEM

NOT_JSON = "not a JSON object"
_TEXTS = pl.List(pl.String)


def read(path: Path, encoding: str, block_bytes: int) -> Iterator[pl.DataFrame]:
    """Frames with the columns of the first block, null where an object lacks one.

    Raises:
        DataError: the file cannot be read.
    """
    schema: dict[str, pl.DataType | type[pl.DataType]] | None = None
    for block in read_blocks(path, block_bytes, encoding):
        try:
            frame = _as_text(pl.read_ndjson(block, infer_schema_length=None))
        except pl.exceptions.PolarsError:
            frame = _line_by_line(block)
        if schema is None:
            schema = {name: dtype for name, dtype in frame.schema.items() if name != PROBLEM}
        yield _in_form(frame, schema)


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    while structs := [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Struct)]:
        frame = frame.unnest(structs, separator=".")
    casts = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.List):
            if not dtype.inner.is_nested():
                casts.append(pl.col(name).cast(_TEXTS))
        else:
            casts.append(pl.col(name).cast(pl.String))
    return frame.select(casts)


def _line_by_line(block: bytes) -> pl.DataFrame:
    """A block with lines that are no objects, or columns of several types."""
    values: list[dict[str, Any]] = []
    problems: list[str | None] = []
    for line in block.splitlines():
        try:
            value = msgspec.json.decode(line) if line.strip() else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            value = None
        problems.append(None if isinstance(value, dict) else NOT_JSON)
        values.append(value if isinstance(value, dict) else {})
    return to_frame(values).with_columns(pl.Series(PROBLEM, problems, pl.String))


def to_frame(values: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Objects -> frame of text.

    >>> to_frame([{"a": 1, "b": {"c": [1, "x"]}}, {"a": True}]).rows()
    [('1', ['1', 'x']), ('true', None)]
    """
    flat = [_flat(value) for value in values]
    names = dict.fromkeys(name for value in flat for name in value)
    lists = {name for value in flat for name, v in value.items() if isinstance(v, list)}
    columns = {}
    for name in names:
        column = [value.get(name) for value in flat]
        if name in lists:
            column = [v if v is None or isinstance(v, list) else [v] for v in column]
        columns[name] = pl.Series(name, column, _TEXTS if name in lists else pl.String)
    return pl.DataFrame(columns)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str | list[str] | None]:
    flat: dict[str, str | list[str] | None] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{name}.")
        elif isinstance(inner, list):
            flat[prefix + name] = [_text(v) or "" for v in inner]
        else:
            flat[prefix + name] = _text(inner)
    return flat


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return msgspec.json.encode(value).decode()


def _in_form(frame: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    columns = []
    for name, dtype in schema.items():
        have = frame.schema.get(name)
        if have is None:
            columns.append(pl.lit(None, dtype).alias(name))
        elif have == dtype:
            columns.append(pl.col(name))
        else:
            columns.append(pl.concat_list(name).alias(name) if dtype == _TEXTS else pl.col(name).list.join(","))
    if PROBLEM in frame.columns:
        columns.append(pl.col(PROBLEM))
    return frame.select(columns)
