"""Small data files and mappings for the tests of logs."""

from pathlib import Path

import polars as pl

from simulators.logs.mapped_log import MappedLog, ReadSizes
from simulators.logs.mapping import load_mapping

MAPPING = """
name = "small"
[log]
files = ["log*"]
user = "user"
item = "item"
time = "ts"
unit = "s"
"""
CLICK = """
[[feedback]]
action = "click"
when = "click = 1"
"""


def open_mapping(folder: Path, text: str, sizes: ReadSizes | None = None, seed: int = 7) -> MappedLog:
    """The log that a mapping makes of the files of a folder."""
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return MappedLog(load_mapping(path), "mapping.toml", folder, seed, sizes)


def rows_of(log: MappedLog) -> pl.DataFrame:
    """All rows of a log."""
    stretches = list(log.stretches())
    return pl.concat(stretches) if stretches else pl.DataFrame()


def write(folder: Path, name: str, *lines: str) -> Path:
    """A text file."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
