"""The mapping file: how a data set's own files become a log. TOML; `mappings/` holds those that are shipped.

Wherever an entry takes "a column or expression", it is the name of a column, which is then taken as it is written in
the file, or an SQL expression over columns (polars' dialect), in which columns that hold numbers are numbers. Two more
columns are there in expressions: `file`, the data file's name up to its first dot, and, with `explode`, `element` and
`index`. A column whose name is a word of SQL's own (`user`, `order`), or has other characters, stands in double quotes
there.
"""

import codecs
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, field

from simulators.logs.errors import MappingError
from simulators.logs.log import Delay

Text = Annotated[str, Meta(min_length=1)]
Format = Literal["csv", "tsv", "jsonl", "json", "parquet"]
UNITS = ("s", "ms", "us", "ns")
MAX_VALUES = 256
"""Most values of a `multi` field that an event may carry."""


class Explode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that hold a list become one row for each element; its columns are `element` and `index`, from 0."""

    list: Text
    """Column or expression: a list, or a text to be split."""
    split: str = ""
    """What stands between the elements of a text."""


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Data files of one form."""

    files: tuple[Text, ...] = ()
    """Glob patterns under `--data`; a file may have `.gz` or `.zst` behind what a pattern says."""
    format: Format | None = None
    """Default: by the suffix; what is not known is CSV. `json` is one object keyed by id (column `key`), or a list."""
    separator: str = ""
    """Between the fields of CSV; default: a comma, or a tab for TSV. One of several (`::`) knows no quotes."""
    columns: tuple[Text, ...] = ()
    """Names of the columns where the file has no header."""
    encoding: Text = "utf-8"
    """Any that Python knows."""
    quote: str | None = None
    """Around fields that hold separators; empty: none. Default: `"` for CSV, none for TSV."""
    types: dict[str, Literal["text", "number"]] = {}
    """What a column is in expressions, where its first rows mislead: all digits, and text later."""
    explode: Explode | None = None

    def __post_init__(self) -> None:
        if self.quote is not None and len(self.quote) > 1:
            raise ValueError(f"quote {self.quote!r}: expected one character, or none")
        try:
            codecs.lookup(self.encoding)
        except LookupError as exc:
            raise ValueError(f"encoding {self.encoding!r} is unknown; Python's names are known, as latin-1") from exc


def _check_time(unit: str, zone: str) -> None:
    if unit and unit not in UNITS and unit != "iso" and "%" not in unit:
        raise ValueError(f"unit {unit!r}: expected {', '.join(UNITS)}, iso, or a format as %Y-%m-%d %H:%M:%S")
    if zone:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as exc:
            raise ValueError(f"zone {zone!r} is unknown; expected a name as Asia/Shanghai") from exc


class LogFiles(Files, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows of the log. Each entry but `files`, `unit` and `zone` is a column or expression."""

    user: Text
    item: Text
    time: Text
    unit: Text = "s"
    """Of numbers in `time`: s, ms, us or ns since 1970 (UTC); else how a text is to be read (strptime), or `iso`."""
    zone: str = ""
    """Time zone of texts that name none, as `Asia/Shanghai`; default: UTC."""
    impression: str = ""
    """True for rows that are impressions; default: all. The others are feedback, by the `when` of `[[feedback]]`."""
    impression_id: str = ""
    """Default: numbered. Feedback without one belongs to its user's last impression of its item."""
    domain: str = ""
    stage: str = ""
    position: str = ""
    propensity: str = ""
    served_probability: str = ""
    served_version: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time(self.unit, self.zone)


class FeedbackEntry(Files, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Rows that are feedback: those of the log for which `when` holds, or those of files of their own."""

    action: Annotated[str, Meta(min_length=1, max_length=256)]
    when: str = ""
    """Expression; default: all rows, which only files of their own may have."""
    value: str = ""
    """Column or expression: how much of it (seconds watched, stars, a price)."""
    time: str = ""
    """Column or expression, when it came; default: the time of its row."""
    unit: str = ""
    """Of `time`; default: the log's."""
    after_ms: str = ""
    """Expression: how long after its row's time it came, ms."""
    delay: Delay | None = None
    """Drawn by the replay, where the log does not say when it came."""
    user: str = ""
    item: str = ""
    impression_id: str = ""
    """These three, of files of their own; default: as for the log."""
    within_s: Annotated[int, Meta(gt=0, le=315_360_000)] = 86_400
    """Feedback without impression id belongs to its user's last impression of its item, at most so long before."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time(self.unit, "")
        if sum(map(bool, (self.time and not self.files, self.after_ms, self.delay))) > 1:
            raise ValueError(f"feedback {self.action!r}: give one of time, after_ms and delay")
        if not self.files and not self.when:
            raise ValueError(f"feedback {self.action!r}: give when, which says which rows are feedback, or files")
        if self.files and (self.after_ms or self.delay):
            raise ValueError(f"feedback {self.action!r}: rows of its own files have a time, not after_ms or delay")


class TableFiles(Files, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Features of users or items, joined as of the impression."""

    of: Literal["user", "item"]
    key: Text
    """Column or expression: the id."""
    time: str = ""
    """Column or expression: from when on a row holds; default: always."""
    unit: Text = "s"
    zone: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time(self.unit, self.zone)


class FieldEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A field of the sample: its declaration (`learner/config.py`), and where its values come from."""

    name: Text
    group: Literal["user", "item", "context"]
    kind: Literal["id", "categorical", "multi", "numeric"]
    state: bool = False
    min_count: Annotated[int, Meta(gt=0, le=1_000_000_000)] = 1
    source: str = field(default="", name="from")
    """Column or expression of a table of the field's group that has it, else of the row; default: the name."""
    match: str = ""
    """Regular expression; the value is what its first group matches."""
    split: str = ""
    """What stands between the values of a `multi` field's text."""
    words: bool | str = False
    """The values are the words of a text, in lower case; or what this regular expression matches in it."""
    limit: Annotated[int, Meta(gt=0, le=MAX_VALUES)] = MAX_VALUES
    """Most values of a `multi` field; what comes behind is left out."""

    def __post_init__(self) -> None:
        if (self.split or self.words) and self.kind != "multi":
            raise ValueError(f"field {self.name!r}: split and words are for kind 'multi', not {self.kind!r}")


class Negatives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Impressions without feedback, drawn for a log that has positives only: items that the user has not had so far."""

    per_positive: Annotated[int, Meta(gt=0, le=100)]
    sampling: Literal["popularity", "uniform"] = "popularity"
    """Over the items seen so far: by how often they were, or each alike."""


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file."""

    name: Text
    log: LogFiles
    feedback: tuple[FeedbackEntry, ...] = ()
    tables: tuple[TableFiles, ...] = ()
    fields: tuple[FieldEntry, ...] = ()
    negatives: Negatives | None = None
    settings: dict[str, Any] = {}
    """Anything else of the pipeline's settings."""
    title: str = ""
    licence: str = ""
    get: str = ""
    """How to get the data."""

    def __post_init__(self) -> None:
        if not self.log.files:
            raise ValueError("log.files: give at least one pattern")
        names = [entry.name for entry in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"fields: a name is declared twice: {names}")


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        MappingError: names the file, the entry, and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise MappingError(f"mapping {path}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise MappingError(f"mapping {path}: not UTF-8 ({exc.reason} at byte {exc.start})") from exc
    try:
        return msgspec.convert(tomllib.loads(text), Mapping)
    except tomllib.TOMLDecodeError as exc:
        raise MappingError(f"mapping {path}: not valid TOML: {exc}") from exc
    except msgspec.ValidationError as exc:
        raise MappingError(f"mapping {path}: {_explain(str(exc))}") from exc


def _explain(message: str) -> str:
    """Put the entry first, and add the keys that are known there."""
    problem, _, where = message.partition(" - at `$")
    entry = where.rstrip("`").lstrip(".")
    if "unknown field" not in problem:
        return f"{entry}: {problem}" if entry else problem
    known = _SECTIONS.get(entry.split("[")[0], Mapping)
    names = ", ".join(info.encode_name for info in msgspec.structs.fields(known))
    return f"{entry or 'the file'} has an {problem.partition('contains ')[2]}; known here: {names}"


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "log": LogFiles,
    "log.explode": Explode,
    "feedback": FeedbackEntry,
    "tables": TableFiles,
    "fields": FieldEntry,
    "negatives": Negatives,
}


def shipped() -> dict[str, Path]:
    """The mappings that come with the project, by name."""
    folder = Path(str(files("simulators.logs") / "mappings"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_mapping(name_or_file: str) -> Path:
    """A shipped mapping by name, or a file by path.

    Raises:
        MappingError: neither.

    >>> find_mapping("ml-1m").name
    'ml-1m.toml'
    """
    known = shipped()
    if name_or_file in known:
        return known[name_or_file]
    if Path(name_or_file).is_file():
        return Path(name_or_file)
    raise MappingError(
        f"--log {name_or_file}: neither a mapping file nor a known name ({', '.join(known)}, synthetic); "
        "`coldstream logs new FILE` writes a mapping file"
    )
