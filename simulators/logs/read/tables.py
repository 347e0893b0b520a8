"""Tables of users and items, in memory: features by id, as of a time where their rows are dated."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from simulators.logs.errors import MappingError
from simulators.logs.log import FeatureTable
from simulators.logs.mapping import FieldEntry, Mapping, TableFiles
from simulators.logs.read.entries import FILE, Entries
from simulators.logs.read.fields import field_value
from simulators.logs.read.files import find_files
from simulators.logs.read.frames import read_frames
from simulators.logs.read.rejects import PROBLEM, ROW, Example, Rejects
from simulators.logs.read.times import to_ms
from stream.events import RawFeature

_ALWAYS = -(2**62)
"""From when on an undated row holds."""


class Tables(msgspec.Struct, frozen=True):
    """What the tables say."""

    users: FeatureTable
    items: FeatureTable
    fields: tuple[FieldEntry, ...]
    """Fields that no table has: their values are in the rows of the log."""


def read_tables(source: str, mapping: Mapping, folder: Path, fields: Sequence[FieldEntry], rejects: Rejects) -> Tables:
    """Read all tables of a mapping.

    Args:
        source: path of the mapping file, for errors.
        mapping: the mapping.
        folder: where the data files are.
        fields: those whose values are to be found.
        rejects: counts rows that cannot be used.

    Raises:
        DataError: a file is missing or damaged.
        MappingError: an entry does not fit its file.
    """
    rows: dict[str, list[pl.DataFrame]] = {"user": [], "item": []}
    left = {field.name: field for field in fields}
    for table in mapping.tables:
        wanted = [field for field in left.values() if field.group == table.of]
        frame, found = _read(source, table, folder, wanted, rejects)
        rows[table.of].append(frame)
        left = {name: field for name, field in left.items() if name not in found}
    order = [field.name for field in fields]
    dated = {of: any(table.time for table in mapping.tables if table.of == of) for of in rows}
    made = {of: _table(frames, order, dated[of]) for of, frames in rows.items()}
    return Tables(made["user"], made["item"], tuple(left.values()))


def _read(
    source: str, table: TableFiles, folder: Path, fields: Iterable[FieldEntry], rejects: Rejects
) -> tuple[pl.DataFrame, set[str]]:
    """Columns `key`, `ts` and those of the fields that it has."""
    label = f"tables.{table.of}"
    entries: Entries | None = None
    frames = []
    for file in find_files(folder, table.files, label):
        for read in read_frames(file, table):
            frame = read.with_columns(pl.lit(file.name.partition(".")[0]).alias(FILE))
            if entries is None:
                entries = Entries(source, file, frame, table.types)
                key = entries.compile(f"{label}.key", table.key)
                time = entries.compile(f"{label}.time", table.time) if table.time else None
                found = [field for field in fields if entries.reads(field.source or field.name)]
                values = {f.name: entries.compile(f"fields.{f.name}.from", f.source or f.name) for f in found}
            used = [key, *([time] if time else []), *values.values()]
            entries.check_columns(file, frame, used)
            rows = entries.evaluate(frame, used).with_columns(frame[PROBLEM], frame[ROW])
            ts = to_ms(pl.col(time.label), time.dtype, table.unit, table.zone) if time else pl.lit(_ALWAYS, pl.Int64)
            try:
                made = rows.select(
                    PROBLEM,
                    ROW,
                    pl.col(key.label).cast(pl.String).alias("key"),
                    ts.alias("ts"),
                    *(field_value(f, values[f.name]).alias(f.name) for f in found),
                )
            except pl.exceptions.PolarsError as exc:
                raise MappingError(f"{source}: a field of {label} in {file}: {str(exc).splitlines()[0]}") from exc
            frames.append(_usable(made, file, rejects))
    assert entries is not None
    return pl.concat(frames), {field.name for field in found}


def _usable(rows: pl.DataFrame, file: Path, rejects: Rejects) -> pl.DataFrame:
    wrong = rows.select(
        pl.coalesce(
            PROBLEM,
            pl.when(pl.col("key").is_null()).then(pl.lit("table: no key")),
            pl.when(pl.col("ts").is_null()).then(pl.lit("table: no time, or not of its unit")),
        ).alias(PROBLEM)
    )[PROBLEM]
    for reason, count in wrong.drop_nulls().value_counts().iter_rows():
        bad = rows.filter((wrong == reason).fill_null(False)).head(3).drop(PROBLEM, "ts")
        rejects.add(reason, count, [Example(file.name, row[0], str(row[1:])) for row in bad.iter_rows()])
    return rows.filter(wrong.is_null()).drop(PROBLEM, ROW)


def _table(frames: Sequence[pl.DataFrame], order: Sequence[str], dated: bool) -> FeatureTable:
    """Rows of several tables -> features by id, in the order of the declared fields."""
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for frame in frames:
        names = frame.columns[2:]
        for key, ts, *values in frame.iter_rows():
            features = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            rows.setdefault(key, []).append((ts, features))
    place = {name: n for n, name in enumerate(order)}

    def merged(parts: Iterable[dict[str, RawFeature]]) -> dict[str, RawFeature]:
        features = {name: value for part in parts for name, value in part.items()}
        return dict(sorted(features.items(), key=lambda item: place[item[0]]))

    if not dated:
        return FeatureTable({key: merged(part for _, part in parts) for key, parts in rows.items()})
    history: dict[str, tuple[list[int], list[dict[str, RawFeature]]]] = {}
    for key, parts in rows.items():
        parts.sort(key=lambda part: part[0])
        times, states = [], []
        state: dict[str, RawFeature] = {}
        for ts, part in parts:
            state = merged((state, part))
            times.append(ts)
            states.append(state)
        history[key] = times, states
    return FeatureTable({}, history)
