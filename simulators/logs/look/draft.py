"""A first mapping for a data file, by the names and values of its columns; what is not certain it says in comments."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import polars as pl

from simulators.logs.errors import DataError
from simulators.logs.look.columns import Looks, guess_options, quoted
from simulators.logs.mapping import UNITS, Files
from simulators.logs.read.files import PACKED
from simulators.logs.read.frames import read_frames
from simulators.logs.read.rejects import PROBLEM, ROW

_SAMPLE_BYTES = 8 << 20
_USER = r"^(user|uid|user_?id|customer|visitor|member|account|reviewer|viewer|device|cookie)"
_ITEM = r"^(item|iid|item_?id|video|movie|product|asin|parent_asin|article|track|song|book|ad_?id|sku)"
_TIME = r"(time|timestamp|date|_ts$|^ts$|_at$|when)"
_RATING = r"(rating|stars|score)"
_FLAG = (
    r"^(is_|has_|clicked?$|liked?$|buy$|purchase|bought|label|convert|conversion|follow|share|comment|long_view|order)"
)
_AMOUNT = r"^(play|watch|dwell)"
_AFTERWARDS = r"(play|watch|dwell|stay|click|conver|purchas)"
_POSITION = r"^(position|pos|rank|slot)$"
_IMPRESSION = r"^(imp_?id|impression_?id|request_item_id)$"
_EVENT = r"^(event|event_?type|action|behaviou?r|behaviou?r_type)$"
_SHOWN = ("view", "pv", "impression", "show", "exposure", "display")


class Guess(msgspec.Struct, frozen=True):
    """A column that will do for something."""

    column: str
    is_certain: bool


def draft_mapping(file: Path) -> str:
    """The text of a mapping file.

    Raises:
        DataError: the file cannot be read, or nothing in it looks like a user, an item, or a time.
    """
    options = guess_options(file)
    frame = next(islice(read_frames(file, options, _SAMPLE_BYTES), 1), None)
    if frame is None or not len(frame):
        raise DataError(f"{file} has no rows")
    return _Draft(file, options, frame.drop(ROW, PROBLEM)).text()


class _Draft:
    """Says what the columns of one file will do for, line by line."""

    def __init__(self, file: Path, options: Files, frame: pl.DataFrame) -> None:
        self._file, self._options, self._looks = file, options, Looks(frame)
        self._lines: list[str] = []

    def text(self) -> str:
        name = self._file.name.partition(".")[0]
        pattern = self._file.with_suffix("").name if self._file.suffix in PACKED else self._file.name
        self._say(f"# Written by looking at {len(self._looks.frame):,} rows of {self._file.name}; ??? marks a guess.")
        self._say(
            f"# `coldstream logs check THIS_FILE --data {self._file.parent}` shows what it makes of the data.", ""
        )
        self._say(f"name = {quoted(name)}", 'title = ""', 'licence = ""', "", "[log]", f"files = [{quoted(pattern)}]")
        self._file_form()
        user, item = self._id("user", _USER), self._id("item", _ITEM)
        for key, guess in (("user", user), ("item", item)):
            self._say(f"{key} = {quoted(guess.column)}" + ("" if guess.is_certain else "    # ??? by its values"))
        self._time()
        self._optional("impression_id", _IMPRESSION)
        self._optional("position", _POSITION)
        self._feedback()
        self._fields()
        return "\n".join(self._lines) + "\n"

    def _say(self, *lines: str) -> None:
        self._lines += lines

    def _file_form(self) -> None:
        if self._options.separator:
            self._say(f"separator = {quoted(self._options.separator)}")
        if self._options.encoding != "utf-8":
            self._say(f"encoding = {quoted(self._options.encoding)}    # ??? it is not UTF-8")
        if self._options.columns:
            self._say(f"columns = [{', '.join(map(quoted, self._options.columns))}]    # ??? no header: name them")

    def _id(self, what: str, pattern: str) -> Guess:
        named = self._looks.named(pattern)
        looks = self._looks
        likely = named or [n for n in looks.free() if not looks.numbers_of_time(n) and looks.num_values(n) > 1]
        if not likely:
            raise DataError(
                f"{self._file}: no column looks like the {what}; its columns are {', '.join(self._looks.frame.columns)}"
            )
        best = named[0] if named else likely[0]
        self._looks.used.add(best)
        return Guess(best, bool(named))

    def _time(self) -> None:
        forms = {name: form for name in self._looks.free() if (form := self._looks.time_form(name))}
        named = [name for name in forms if re.search(_TIME, name.lower())]
        numbered = [name for name in self._looks.named(_TIME) if self._looks.numbers(name) is not None]
        # A column with more different times is the finer one: a date beside a timestamp.
        finest = sorted(named or forms, key=self._looks.num_values, reverse=True)
        if finest:
            name, form = finest[0], forms[finest[0]]
            note = "" if named else "    # ??? by its values"
        elif numbered:
            name, form, note = numbered[0], "s", "    # ??? seconds from some beginning on"
        else:
            raise DataError(
                f"{self._file}: no column looks like a time; its columns are {', '.join(self._looks.frame.columns)}"
            )
        self._looks.used.add(name)
        self._looks.used.update(named)
        self._say(f"time = {quoted(name)}{note}", f"unit = {quoted(form)}")
        if form not in UNITS:
            self._say('# zone = "Asia/Shanghai"    # if its clock is not UTC')

    def _optional(self, key: str, pattern: str) -> None:
        for name in self._looks.named(pattern)[:1]:
            self._looks.used.add(name)
            self._say(f"{key} = {quoted(name)}")

    def _feedback(self) -> None:
        rules = [*self._events(), *self._ratings(), *self._flags(), *self._amounts()]
        if not rules:
            self._say("", "# ??? No column looks like feedback: is every row a positive? Then negatives are drawn.")
            self._say("[[feedback]]", 'action = "interaction"', 'when = "true"')
            self._say("", "[negatives]", "per_positive = 4", 'sampling = "popularity"')
        for rule in rules:
            self._say("", *rule)

    def _events(self) -> Iterable[Sequence[str]]:
        for name in self._looks.named(_EVENT)[:1]:
            kinds = self._looks.frame[name].cast(pl.String).drop_nulls().unique().sort().to_list()
            if len(kinds) > 30:
                return
            self._looks.used.add(name)
            shown = [kind for kind in kinds if kind.lower() in _SHOWN] or kinds[:1]
            listed = ", ".join("'" + kind.replace("'", "''") + "'" for kind in shown)
            at = next(n for n, line in enumerate(self._lines) if line.startswith("time = "))
            self._lines.insert(
                at, f"impression = {quoted(f'{_column(name)} in ({listed})')}    # ??? the others are feedback"
            )
            for kind in kinds:
                if kind not in shown:
                    literal = kind.replace("'", "''")
                    when = f"{_column(name)} = '{literal}'"
                    yield ("[[feedback]]", f"action = {quoted(kind)}", f"when = {quoted(when)}")

    def _ratings(self) -> Iterable[Sequence[str]]:
        for name in self._looks.named(_RATING):
            numbers = self._looks.numbers(name)
            if numbers is None or not 2 < self._looks.num_values(name) <= 101:
                continue
            self._looks.used.add(name)
            limit = float(numbers.quantile(0.5) or 0)
            when = f"{_column(name)} >= {limit:g}"
            yield (
                "[[feedback]]",
                'action = "like"',
                f"when = {quoted(when)}    # ??? from the median on",
                f"value = {quoted(name)}",
                "delay = { median_s = 20, sigma = 1.5 }",
            )

    def _flags(self) -> Iterable[Sequence[str]]:
        named = self._looks.named(_FLAG)
        for name in sorted(named, key=self._looks.frame.columns.index):
            values = set(self._looks.frame[name].cast(pl.String).drop_nulls().str.to_lowercase().unique())
            if not values or not values <= {"0", "1", "0.0", "1.0", "true", "false"}:
                continue
            self._looks.used.add(name)
            when = _column(name) if values & {"true", "false"} else f"{_column(name)} = 1"
            action = re.sub(r"^(is|has)_", "", name)
            yield ("[[feedback]]", f"action = {quoted(action)}", f"when = {quoted(when)}")

    def _amounts(self) -> Iterable[Sequence[str]]:
        for name in self._looks.named(_AMOUNT):
            if self._looks.numbers(name) is not None and self._looks.num_values(name) > 20:
                self._looks.used.add(name)
                action = re.split(r"[_\W]", name)[0]
                when = f"{_column(name)} > 0"
                yield (
                    "[[feedback]]",
                    f"action = {quoted(action)}",
                    f"when = {quoted(when)}",
                    f"value = {quoted(name)}",
                )
                return

    def _fields(self) -> None:
        fields = [("user_id", "user", "id", ["state = true"]), ("item_id", "item", "id", ["state = true"])]
        left, afterwards = [], []
        for name in self._looks.free():
            kind, more = self._looks.kind(name)
            if re.search(_AFTERWARDS, name.lower()):
                afterwards.append(name)
            elif not kind:
                left.append(name)
            else:
                group = "user" if re.search(r"(user|gender|age$)", name.lower()) else "context"
                fields.append((re.sub(r"\W+", "_", name), group, kind, [f"from = {quoted(name)}", *more]))
        self._say("", "# ??? What is known only after an item was shown must not be a field: it tells the label.")
        for name, group, kind, more in fields:
            self._say(
                "",
                "[[fields]]",
                f"name = {quoted(name)}",
                f"group = {quoted(group)}",
                f"kind = {quoted(kind)}",
                *more,
            )
        if afterwards:
            self._say("", f"# Not used, as they look like what came of it: {', '.join(afterwards)}")
        if left:
            self._say("", f"# Not used (one value only, or too many): {', '.join(left)}")
        self._say(
            "", '# Columns about the item belong in group = "item"; tables of users and items are joined by [[tables]]:'
        )
        self._say("# [[tables]]", '# of = "item"', '# files = ["items.csv"]', '# key = "item_id"')


def _column(name: str) -> str:
    """As an SQL expression has it."""
    return (
        name
        if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in ("user", "order", "action", "label")
        else f'"{name}"'
    )
