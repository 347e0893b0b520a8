"""A data file -> frames of its own columns, as text where the format has no types, with each row's number."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl

from simulators.logs.errors import DataError
from simulators.logs.mapping import Files, Format
from simulators.logs.read import delimited, json_lines
from simulators.logs.read.files import read_pieces, suffix_of
from simulators.logs.read.rejects import PROBLEM, ROW

BLOCK_BYTES = 16 << 20
_BYTES_PER_ROW = 128
_FORMATS: dict[str, Format] = {
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".inter": "tsv",
    ".item": "tsv",
    ".user": "tsv",
}


def format_of(path: Path, options: Files) -> Format:
    """What a mapping says, or the suffix; RecBole's atomic files are TSV."""
    return options.format or _FORMATS.get(suffix_of(path), "csv")


def read_frames(path: Path, options: Files, block_bytes: int = BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """The file, some hundred thousand rows at a time, in constant memory (`json`: as a whole).

    Each frame has the same columns, and `ROW` and `PROBLEM` besides.

    Raises:
        DataError: it cannot be read, is cut off or empty; names the file.
    """
    match format_of(path, options):
        case "parquet":
            frames = _parquet(path, max(1, block_bytes // _BYTES_PER_ROW))
        case "jsonl":
            frames = json_lines.read(path, options.encoding, block_bytes)
        case "json":
            frames = iter([_json(path)])
        case format_ if options.separator:
            frames = delimited.read(path, options, format_ == "csv", options.separator, block_bytes)
        case format_:
            frames = delimited.read(path, options, format_ == "csv", "\t" if format_ == "tsv" else ",", block_bytes)
    at = 1
    for frame in frames:
        more = [pl.int_range(at, at + len(frame), dtype=pl.Int64).alias(ROW)]
        if PROBLEM not in frame.columns:
            more.append(pl.lit(None, pl.String).alias(PROBLEM))
        at += len(frame)
        yield _without_blank_rows(frame.with_columns(more))


def _without_blank_rows(frame: pl.DataFrame) -> pl.DataFrame:
    own = [name for name in frame.columns if name not in (ROW, PROBLEM)]
    if not frame[own[0]].null_count():
        return frame
    return frame.filter(~pl.all_horizontal(pl.col([*own, PROBLEM]).is_null()))


def _parquet(path: Path, num_rows: int) -> Iterator[pl.DataFrame]:
    try:
        yield from pl.scan_parquet(path).collect_batches(chunk_size=num_rows, lazy=True)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise DataError(f"{path} is damaged or not Parquet ({str(exc).splitlines()[0]}); fetch it anew") from exc


def _json(path: Path) -> pl.DataFrame:
    try:
        values = msgspec.json.decode(b"".join(read_pieces(path, BLOCK_BYTES)))
    except msgspec.DecodeError as exc:
        raise DataError(f"{path} is not JSON ({exc}); copy or fetch it anew") from exc
    if isinstance(values, dict):
        values = [{"key": key, **value} if isinstance(value, dict) else None for key, value in values.items()]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values) or not values:
        raise DataError(f"{path}: expected an object of objects, keyed by id, or a list of objects")
    return json_lines.to_frame(values)
