"""Frames of a data file -> rows of the log; what cannot be used is set apart and counted by reason."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from simulators.logs.errors import MappingError
from simulators.logs.mapping import UNITS, FieldEntry, Mapping
from simulators.logs.read import columns
from simulators.logs.read.entries import FILE, Entries, Entry
from simulators.logs.read.fields import field_value
from simulators.logs.read.parts import HASHES, RESERVED, Part, row_schema
from simulators.logs.read.rejects import PROBLEM, ROW, Example, Rejects

_MAY_LACK = ("value", *RESERVED)
"""Entries without which a row can be used."""


class RowMapper:
    """Maps the files of one part; what they are like is learned from the first frame.

    Args:
        source: path of the mapping file, for errors.
        mapping: the mapping.
        part: which of its files.
        fields: those whose values come from the rows of the log.
    """

    def __init__(self, source: str, mapping: Mapping, part: Part, fields: Sequence[FieldEntry]) -> None:
        self._source, self._mapping, self.part = source, mapping, part
        self._fields = fields if part.rule is None else ()
        self._schema = row_schema(mapping, fields)
        self._entries: Entries | None = None
        self._core: dict[str, Entry] = {}
        self._features: dict[str, Entry] = {}
        self._list: tuple[Entries, Entry] | None = None

    def map(self, frame: pl.DataFrame, file: Path, rejects: Rejects | None = None, *, features: bool) -> pl.DataFrame:
        """Rows in the form of `row_schema`.

        Args:
            frame: of the file.
            file: where it is from.
            rejects: counts what is left out; None: it has been counted.
            features: with the rows' own features, or without (faster).

        Raises:
            MappingError: an entry does not fit the file.
        """
        frame = self._shaped(frame, file)
        entries = self._entries or self._compile(frame, file)
        used = [*self._core.values(), *(self._features.values() if features else ())]
        entries.check_columns(file, frame, used)
        values = entries.evaluate(frame, used)
        reads_file = any(FILE in entry.columns for entry in self._core.values())
        own = [name for name in frame.columns if name not in (ROW, PROBLEM) and (name != FILE or reads_file)]
        seed = 0 if self.part.rule is None else 2 * self.part.rule + 2
        hashes = [frame.select(own).hash_rows(seed + n).alias(name) for n, name in enumerate(HASHES)]
        rows = pl.concat([frame.select(ROW, PROBLEM), values], how="horizontal").with_columns(hashes)
        rows = rows.with_columns(self._columns(features))
        problems = self._problems(entries, frame, rows)
        wrong = rows.select(pl.coalesce(PROBLEM, *problems).alias(PROBLEM))[PROBLEM]
        if rejects is not None and wrong.null_count() < len(wrong):
            _count(rejects, frame, wrong, own, file)
        schema = self._schema if features else {k: v for k, v in self._schema.items() if not k.startswith("feature.")}
        return rows.filter(wrong.is_null()).select(list(schema))

    def _shaped(self, frame: pl.DataFrame, file: Path) -> pl.DataFrame:
        """With the column `file`, and a row for each element of what is to be exploded."""
        frame = frame.with_columns(pl.lit(file.name.partition(".")[0]).alias(FILE))
        explode = self.part.files.explode
        if explode is None:
            return frame
        if self._list is None:
            entries = Entries(self._source, file, frame, {})
            self._list = entries, entries.compile(f"{self.part.label}.explode.list", explode.list)
        entries, entry = self._list
        values = entries.evaluate(frame, [entry])[entry.label]
        if values.dtype == pl.String:
            if not explode.split:
                raise MappingError(
                    f"{self._source}: {entry.label} = {explode.list!r} is text in {file}; give `split`, "
                    "which stands between its elements"
                )
            values = values.str.split(explode.split)
        if not isinstance(values.dtype, pl.List):
            raise MappingError(
                f"{self._source}: {entry.label} = {explode.list!r}: {values.dtype} in {file}, not a list"
            )
        index = pl.int_ranges(pl.col("element").list.len()).alias("index")
        read = [name for name in entry.columns if name in frame.columns]
        return frame.drop(read).with_columns(values.alias("element")).with_columns(index).explode("element", "index")

    def _compile(self, frame: pl.DataFrame, file: Path) -> Entries:
        part, head = self.part, frame.head(100_000)
        entries = Entries(self._source, file, head, part.files.types)
        self._core = {name: entries.compile(f"{part.label}.{name}", text) for name, text in part.texts.items()}
        if part.rule is None:
            for k, entry in enumerate(self._mapping.feedback):
                if not entry.files:
                    texts = {"when": entry.when, "value": entry.value, "time": entry.time, "after": entry.after_ms}
                    for name, text in texts.items():
                        if text:
                            self._core[f"{name}.{k}"] = entries.compile(f"feedback.{entry.action}.{name}", text)
        for field in self._fields:
            self._features[field.name] = entries.compile(f"fields.{field.name}.from", field.source or field.name)
        self._try_values(entries, head.head(1000))
        self._entries = entries
        return entries

    def _try_values(self, entries: Entries, head: pl.DataFrame) -> None:
        """Regular expressions are wrong only when they are applied."""
        for field in self._fields:
            entry = self._features[field.name]
            try:
                entries.evaluate(head, [entry]).select(field_value(field, entry))
            except pl.exceptions.PolarsError as exc:
                raise MappingError(f"{self._source}: fields.{field.name}: {str(exc).splitlines()[0]}") from exc

    def _columns(self, features: bool) -> list[pl.Expr]:
        """What `row_schema` says, of the entries' values."""
        core, part = self._core, self.part
        made = [columns.text(core["user"]).alias("user_id"), columns.text(core["item"]).alias("item_id")]
        made.append(columns.ms(core["time"], part.unit, part.zone).alias("ts"))
        imp_id = columns.text(core["impression_id"]) if "impression_id" in core else pl.lit(None, pl.String)
        shown = columns.truth(core["impression"]) if "impression" in core else pl.lit(part.rule is None)
        made += [imp_id.alias("imp_id"), shown.alias("shown")]
        for name, own_dtype in RESERVED.items():
            if getattr(self._mapping.log, name):
                made.append(columns.reserved(name, core[name]) if name in core else columns.none(name, own_dtype))
        for k in range(len(self._mapping.feedback)):
            made += self._own_feedback(k) if part.rule is not None else self._feedback(k)
        if features:
            fields = {field.name: field_value(field, self._features[field.name]) for field in self._fields}
            for name, dtype in self._schema.items():
                if name.startswith("feature."):
                    value = fields.get(name.removeprefix("feature."))
                    made.append(columns.none(name, dtype) if value is None else value.alias(name))
        return made

    def _feedback(self, k: int) -> list[pl.Expr]:
        """By a rule on the rows of the log."""
        entry, core = self._mapping.feedback[k], self._core
        if f"when.{k}" not in core:
            return columns.no_feedback(k, has_time=entry.delay is None)
        when = columns.truth(core[f"when.{k}"])
        value = columns.value(core[f"value.{k}"], k) if f"value.{k}" in core else columns.none(f"value.{k}", pl.Float64)
        made = [when.alias(f"feedback.{k}"), value]
        if entry.delay is None:
            ts = columns.ms(core["time"], self.part.unit, self.part.zone)
            if f"time.{k}" in core:
                ts = columns.ms(core[f"time.{k}"], entry.unit or self.part.unit, self.part.zone)
            elif f"after.{k}" in core:
                after_ms = pl.col(core[f"after.{k}"].label).cast(pl.Float64, strict=False)
                ts = ts + after_ms.round().cast(pl.Int64, strict=False)
            made.append(pl.when(when).then(ts).alias(f"ts.{k}"))
        return made

    def _own_feedback(self, k: int) -> list[pl.Expr]:
        """In rows of files that are one kind of feedback."""
        core = self._core
        if k != self.part.rule:
            return columns.no_feedback(k, has_time=self._mapping.feedback[k].delay is None)
        when = columns.truth(core["when"]) if "when" in core else pl.lit(True)
        value = columns.value(core["value"], k) if "value" in core else columns.none(f"value.{k}", pl.Float64)
        ts = columns.ms(core["time"], self.part.unit, self.part.zone)
        return [when.alias(f"feedback.{k}"), value, ts.alias(f"ts.{k}")]

    def _problems(self, entries: Entries, frame: pl.DataFrame, rows: pl.DataFrame) -> list[pl.Series]:
        """What is wrong with each row, a column for each kind of wrong; null: nothing."""
        core, unit = self._core, self.part.unit
        ts, imp_id = pl.col("ts"), pl.col("imp_id")
        not_time = "time is not a number" if unit in UNITS else f"time is not of the form {unit}"
        wrong = [
            (pl.col("user_id").is_null(), "no user"),
            (pl.col("item_id").is_null(), "no item"),
            (_too_long("user_id"), f"user id longer than {columns.MAX_ID} characters"),
            (_too_long("item_id"), f"item id longer than {columns.MAX_ID} characters"),
            (pl.col(core["time"].label).is_null(), "no time"),
            (ts.is_null(), not_time),
            (~ts.is_between(0, columns.MAX_TS), "time out of range"),
        ]
        if "impression_id" in core:
            wrong.append((imp_id.is_null(), "no impression id"))
            wrong.append((_too_long("imp_id"), f"impression id longer than {columns.MAX_ID} characters"))
        num_rules = range(len(self._mapping.feedback))
        any_feedback = pl.any_horizontal([pl.lit(False), *(pl.col(f"feedback.{k}") for k in num_rules)])
        nothing = "neither an impression nor feedback" if self.part.rule is None else "not this feedback"
        wrong.append((~pl.col("shown") & ~any_feedback, nothing))
        for k in num_rules:
            if f"ts.{k}" in rows.columns:
                no_time = pl.col(f"feedback.{k}") & ~pl.col(f"ts.{k}").is_between(0, columns.MAX_TS).fill_null(False)
                wrong.append((no_time, f"{self._mapping.feedback[k].action} without a time"))
        judged = (entry for name, entry in core.items() if not name.startswith(_MAY_LACK))
        found = rows.select(pl.when(cond).then(pl.lit(text)).alias(str(n)) for n, (cond, text) in enumerate(wrong))
        return _no_numbers(entries, frame, judged) + found.get_columns()


def _too_long(name: str) -> pl.Expr:
    return pl.col(name).str.len_chars() > columns.MAX_ID


def _no_numbers(entries: Entries, frame: pl.DataFrame, used: Iterable[Entry]) -> list[pl.Series]:
    """Columns of expressions with a value that is not of their kind: what it makes of the row is not known."""
    names = dict.fromkeys(name for e in used if not e.is_column for name in e.columns)
    typed = entries.typed(frame, names)
    found = []
    for name in names:
        if typed[name].null_count() > frame[name].null_count():
            bad = typed[name].is_null() & frame[name].is_not_null()
            kind = "a number" if entries.kind(name) == "number" else "true or false"
            found.append(pl.select(pl.when(bad).then(pl.lit(f"{name} is not {kind}")))[:, 0])
    return found


def _count(rejects: Rejects, frame: pl.DataFrame, wrong: pl.Series, own: list[str], file: Path) -> None:
    for reason, count in wrong.drop_nulls().value_counts().iter_rows():
        examples = []
        if rejects.wants(reason):
            rows = frame.filter((wrong == reason).fill_null(False)).head(3)
            examples = [Example(file.name, row[0], _shown(row[1:])) for row in rows.select(ROW, *own).iter_rows()]
        rejects.add(reason, count, examples)


def _shown(values: Iterable[Any]) -> str:
    return ", ".join("" if value is None else str(value) for value in values)
