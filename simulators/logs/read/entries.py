"""A mapping's entries, columns or SQL expressions, made to fit a data file, with an error that says what does not."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import polars as pl

from simulators.logs.errors import MappingError
from simulators.logs.read.rejects import PROBLEM, ROW

FILE = "file"
_HEAD = 1000
_WORDS = ("true", "false")


class Entry(msgspec.Struct, frozen=True):
    """An entry that fits."""

    label: str
    """As `log.user`."""
    expr: pl.Expr
    is_column: bool
    """It is a column as it is written; else an expression, in which columns that hold numbers are numbers."""
    columns: tuple[str, ...]
    """What it reads."""
    dtype: pl.DataType


class Entries:
    """Entries of one mapping for data files of one form.

    Args:
        mapping: path of the mapping file, for errors.
        file: the first data file.
        head: its first rows.
        types: what columns are, where their first rows mislead.
    """

    def __init__(self, mapping: str, file: Path, head: pl.DataFrame, types: Mapping[str, str]) -> None:
        self._mapping, self._file, self._types = mapping, file, types
        self._head = head
        self._kinds: dict[str, str] = {}
        for name in types:
            if name not in head.columns:
                raise MappingError(f"{mapping}: types names the column {name!r}, {self._what_there_is()}")

    @property
    def columns(self) -> list[str]:
        """The file's own columns."""
        return [name for name in self._head.columns if name not in (ROW, PROBLEM)]

    def reads(self, text: str) -> bool:
        """Whether the file has the columns of an entry."""
        if text in self._head.columns:
            return True
        try:
            names = pl.sql_expr(text).meta.root_names()
        except pl.exceptions.PolarsError:
            return False
        return bool(names) and all(name in self._head.columns for name in names)

    def compile(self, label: str, text: str) -> Entry:
        """An entry, tried on the first rows.

        Raises:
            MappingError: names mapping file, entry, data file and its columns.
        """
        if text in self.columns:
            return Entry(label, pl.col(text), True, (text,), self._head.schema[text])
        try:
            expr = pl.sql_expr(text)
        except pl.exceptions.PolarsError as exc:
            where = "is neither a column nor an expression" if " " in text.strip() else "is not a column"
            raise self._error(label, text, f"{where} ({_first_line(exc)})") from exc
        columns = tuple(dict.fromkeys(expr.meta.root_names()))
        if missing := [name for name in columns if name not in self._head.columns]:
            raise self._error(label, text, f"there is no column {' and no '.join(map(repr, missing))}")
        head = self.typed(self._head, columns).head(_HEAD)
        try:
            tried = head.select(pl.int_range(pl.len()).alias(ROW), expr.alias(label))
        except pl.exceptions.PolarsError as exc:
            raise self._error(label, text, _first_line(exc)) from exc
        return Entry(label, expr, False, columns, tried.schema[label])

    def _error(self, label: str, text: str, problem: str) -> MappingError:
        return MappingError(f"{self._mapping}: {label} = {text!r}: {problem}; {self._what_there_is()}")

    def _what_there_is(self) -> str:
        return f"{self._file} has the columns {', '.join(self.columns)}"

    def check_columns(self, file: Path, frame: pl.DataFrame, entries: Iterable[Entry]) -> None:
        """A further file of the same form has what is read of the first.

        Raises:
            MappingError: names both files and the column.
        """
        for entry in entries:
            for name in entry.columns:
                if name not in frame.columns:
                    there = ", ".join(column for column in frame.columns if column not in (ROW, PROBLEM))
                    raise MappingError(
                        f"{self._mapping}: {entry.label} reads the column {name!r}, which {self._file} has and "
                        f"{file} has not; its columns are {there}"
                    )

    def kind(self, name: str) -> str:
        """What a column is in expressions: text, number, truth, or own where the file has types itself."""
        if name not in self._kinds:
            self._kinds[name] = self._types.get(name) or _guess(self._head[name])
        return self._kinds[name]

    def typed(self, frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
        """The frame with those columns as expressions see them; null where a value is not of its column's kind."""
        values = [_convert(frame[name], kind) for name in columns if (kind := self.kind(name)) in ("number", "truth")]
        return frame.with_columns(values) if values else frame

    def evaluate(self, frame: pl.DataFrame, entries: Iterable[Entry]) -> pl.DataFrame:
        """A column for each entry, named by its label."""
        entries = list(entries)
        typed = self.typed(frame, dict.fromkeys(c for e in entries if not e.is_column for c in e.columns))
        as_written = frame.select(e.expr.alias(e.label) for e in entries if e.is_column)
        # The row's number keeps the length where all else is constant.
        computed = typed.select(pl.col(ROW), *(e.expr.alias(e.label) for e in entries if not e.is_column))
        return pl.concat([as_written, computed.drop(ROW)], how="horizontal") if as_written.width else computed.drop(ROW)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _guess(values: pl.Series) -> str:
    if values.dtype != pl.String:
        return "own"
    if values.null_count() == len(values) or _convert(values, "number").null_count() == values.null_count():
        return "number"
    return "truth" if values.drop_nulls().str.to_lowercase().is_in(_WORDS).all() else "text"


def _convert(values: pl.Series, kind: str) -> pl.Series:
    if values.dtype != pl.String:
        return values
    if kind == "truth":
        lower = values.str.to_lowercase()
        return (lower == "true").set(~lower.is_in(_WORDS).fill_null(False), None)
    whole = values.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == values.null_count() else values.cast(pl.Float64, strict=False)
