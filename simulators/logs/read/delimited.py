"""CSV and its kin -> frames of text. What polars reads otherwise than a person would is read by Python's csv."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from simulators.logs.errors import DataError
from simulators.logs.mapping import Files
from simulators.logs.read.files import read_blocks
from simulators.logs.read.rejects import PROBLEM

_OVERFLOW = "coldstream.overflow"
_UNIT_SEPARATOR = "\x1f"
TOO_MANY = "more fields than columns"
NOT_TEXT = "not in the file's encoding"
UNCLOSED = "a quote that is not closed"


def read(path: Path, options: Files, is_csv: bool, separator: str, block_bytes: int) -> Iterator[pl.DataFrame]:
    """Frames of text, a column each; null where a field is empty.

    Args:
        path: the file.
        options: header, encoding and quotes, as a mapping has them.
        is_csv: fields are quoted, if the mapping does not say.
        separator: between fields; of any length.
        block_bytes: about how much is held at a time.

    Raises:
        DataError: the file cannot be read, or has no header.
    """
    quote = ('"' if is_csv else "") if options.quote is None else options.quote
    quote = "" if len(separator) > 1 else quote
    form = Delimited(path, separator, quote)
    columns: Sequence[str] = options.columns
    for block in read_blocks(path, block_bytes, options.encoding, quote):
        if not columns:
            header, _, rows = block.partition(b"\n")
            columns = form.header(header)
            if rows:
                yield form.parse(rows, columns)
        else:
            yield form.parse(block, columns)


class Delimited:
    """How one file separates its fields."""

    def __init__(self, path: Path, separator: str, quote: str) -> None:
        self._path, self._separator, self._quote = path, separator, quote

    def header(self, line: bytes) -> list[str]:
        """Names of the columns."""
        names = self._by_csv(line.decode(errors="replace").rstrip("\r\n"))
        columns = [name.strip() for name in names[0]] if names else []
        if len(set(columns)) != len(columns) or not all(columns):
            raise DataError(
                f"{self._path}: its first line is to name the columns, each once, and reads {line[:200]!r}; "
                "where a file has no header, the mapping's `columns` name them"
            )
        return columns

    def _by_csv(self, text: str) -> list[list[str]]:
        if len(self._separator) > 1:
            return [line.split(self._separator) for line in _lines(text)]
        lines = io.StringIO(text, newline="")
        if not self._quote:
            return list(csv.reader(lines, delimiter=self._separator, quoting=csv.QUOTE_NONE))
        return list(csv.reader(lines, delimiter=self._separator, quotechar=self._quote))

    def parse(self, block: bytes, columns: Sequence[str]) -> pl.DataFrame:
        """Whole records -> frame."""
        separator = self._separator
        if len(separator) > 1:
            block = block.replace(_UNIT_SEPARATOR.encode(), b" ").replace(separator.encode(), _UNIT_SEPARATOR.encode())
            separator = _UNIT_SEPARATOR
        is_text = _is_utf8(block)
        frame = self._fast(block, columns, separator, is_text)
        if frame is None:
            return self._slow(block, columns)
        problem: pl.Expr = pl.when(pl.col(_OVERFLOW).is_not_null()).then(pl.lit(TOO_MANY))
        if not is_text:
            garbled = pl.any_horizontal(pl.col(columns).str.contains("\ufffd", literal=True))
            problem = pl.when(garbled).then(pl.lit(NOT_TEXT)).otherwise(problem)
        return frame.select(*columns, problem.alias(PROBLEM))

    def _fast(self, block: bytes, columns: Sequence[str], separator: str, is_text: bool) -> pl.DataFrame | None:
        """By polars; None if it makes another number of records of it than there are lines."""
        try:
            frame = pl.read_csv(
                block,
                has_header=False,
                schema=dict.fromkeys((*columns, _OVERFLOW), pl.String),
                separator=separator,
                quote_char=self._quote or None,
                encoding="utf8" if is_text else "utf8-lossy",
                truncate_ragged_lines=True,
                missing_columns="insert",
                extra_columns="ignore",
            )
        except pl.exceptions.ComputeError:
            return None
        num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        # Fewer records: quotes go over lines, or a stray one has swallowed some.
        return frame if len(frame) == num_lines else None

    def _slow(self, block: bytes, columns: Sequence[str]) -> pl.DataFrame:
        """A block with line ends inside quotes, or stray quotes: a few hundred thousand records a second."""
        text = block.decode(errors="replace")
        try:
            records = self._by_csv(text)
            problems: list[str | None] = [None] * len(records)
        except csv.Error:
            # A quote that is never closed swallows what is behind it: then no quote goes over lines.
            lines = _lines(text)
            torn = [line.count(self._quote) % 2 == 1 for line in lines]
            records = [
                [line] if bad else self._by_csv(line)[0] if line else [] for line, bad in zip(lines, torn, strict=True)
            ]
            problems = [UNCLOSED if bad else None for bad in torn]
        width = len(columns)
        for n, record in enumerate(records):
            if len(record) > width and any(record[width:]):
                problems[n] = problems[n] or TOO_MANY
            elif any("\ufffd" in value for value in record):
                problems[n] = problems[n] or NOT_TEXT
        padded = [[value or None for value in record[:width]] + [None] * (width - len(record)) for record in records]
        schema = dict.fromkeys(columns, pl.String)
        frame = pl.DataFrame(padded, schema=schema, orient="row")
        return frame.with_columns(pl.Series(PROBLEM, problems, pl.String))


def _lines(text: str) -> list[str]:
    """Not `splitlines`, which breaks at characters that are no line's end in a file."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _is_utf8(block: bytes) -> bool:
    """Whether it is whole UTF-8, without the character that stands for what could not be decoded."""
    if block.isascii():
        return True
    try:
        return "\ufffd" not in block.decode()
    except UnicodeDecodeError:
        return False
