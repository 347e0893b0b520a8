"""What the columns of a data file look like: ids, times and their units, flags, amounts, features."""

import re
from pathlib import Path

import msgspec
import polars as pl

from simulators.logs.mapping import Files
from simulators.logs.read.files import read_blocks
from simulators.logs.read.frames import format_of

_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%Y%m%d",
)
# From 1990 to 2100, by the number of digits that seconds, milliseconds, ... have.
_PER_S = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EARLIEST_S, _LATEST_S = 631_152_000, 4_102_444_800
_MAX_CATEGORIES = 1000


def guess_options(file: Path) -> Files:
    """Separator, encoding and header of a text file, by its beginning."""
    if format_of(file, Files()) not in ("csv", "tsv"):
        return Files()
    block = next(read_blocks(file, 1 << 16))
    line = block.split(b"\n", 1)[0].decode(errors="replace")
    separator = max(("::", ",", "\t", ";", "|"), key=lambda s: (line.count(s) * len(s), s == ","))
    encoding = "utf-8" if _decodes(block) else "latin-1"
    usual = "\t" if format_of(file, Files()) == "tsv" else ","
    first = line.rstrip("\r").split(separator)
    has_header = not any(re.fullmatch(r"-?\d+(\.\d+)?", value.strip('" ')) for value in first)
    columns = () if has_header else tuple(f"column_{n}" for n in range(1, len(first) + 1))
    return Files(columns=columns, encoding=encoding, separator="" if separator == usual else separator)


def _decodes(block: bytes) -> bool:
    try:
        # The block's end may lie inside a character.
        block[: block.rfind(b"\n") + 1].decode()
    except UnicodeDecodeError:
        return False
    return True


class Looks:
    """The columns of a file, as far as they have no use yet.

    Args:
        frame: its first rows.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.used: set[str] = set()

    def free(self) -> list[str]:
        """Columns without a use."""
        return [name for name in self.frame.columns if name not in self.used]

    def named(self, pattern: str) -> list[str]:
        """Those whose names match."""
        return [name for name in self.free() if re.search(pattern, name.split(":")[0].lower())]

    def num_values(self, name: str) -> int:
        """How many different ones it has."""
        return int(self.frame[name].n_unique())

    def numbers(self, name: str) -> pl.Series | None:
        """Its values, if all are numbers."""
        values = self.frame[name]
        if values.dtype.is_nested() or values.dtype.is_temporal():
            return None
        numbers = values.cast(pl.Float64, strict=False)
        return numbers if numbers.null_count() == values.null_count() < len(values) else None

    def numbers_of_time(self, name: str) -> str | None:
        """The unit in which its numbers are times since 1970, from 1990 on."""
        numbers = self.numbers(name)
        if numbers is None:
            return None
        for unit, per_s in _PER_S.items():
            if numbers.is_between(_EARLIEST_S * per_s, _LATEST_S * per_s).sum() > 0.9 * len(numbers):
                return unit
        return None

    def time_form(self, name: str) -> str | None:
        """How its values are times: a unit, `iso`, a format; None: they are none."""
        values = self.frame[name]
        if values.dtype.is_temporal():
            return "s"
        if values.dtype != pl.String:
            return self.numbers_of_time(name)
        text = values.drop_nulls().head(1000)
        if not len(text):
            return None
        day_or_time = text.str.contains(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?)?$").mean()
        if day_or_time is not None and float(day_or_time) > 0.9:  # type: ignore[arg-type]
            return "iso"
        for form in _FORMATS:
            if text.str.strptime(pl.Datetime, form, strict=False).null_count() < 0.1 * len(text):
                return form
        return self.numbers_of_time(name)

    def kind(self, name: str) -> tuple[str, list[str]]:
        """Kind of a feature, and what else its field says; empty: it is none."""
        values = self.frame[name]
        if isinstance(values.dtype, pl.List):
            return "multi", []
        if values.dtype.is_nested() or values.dtype.is_temporal() or self.num_values(name) < 2:
            return "", []
        if self.num_values(name) > _MAX_CATEGORIES or self.num_values(name) > 0.5 * len(values) > 50:
            return ("numeric", []) if self.numbers(name) is not None else ("", [])
        text = values.cast(pl.String).drop_nulls()
        for split in ("|", ";"):
            if float(text.str.contains(split, literal=True).mean() or 0) > 0.1:  # type: ignore[arg-type]
                return "multi", [f"split = {quoted(split)}"]
        return "categorical", []


def quoted(text: str) -> str:
    """As TOML has it."""
    return msgspec.json.encode(text).decode()
