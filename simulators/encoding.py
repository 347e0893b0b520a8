"""Events of a frame as records: byte for byte what `encode_event` writes, in less time.

What is said of a user or an item again and again is encoded once and put together: a replay is to be faster than what
it feeds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Literal

import msgspec
import polars as pl

from simulators.logs.log import FeatureTable
from simulators.schedule import IMPRESSION, Events
from stream.events import RawFeature
from stream.partitioning import partition_of

_CHUNK = 1 << 14
"""Events encoded at a time."""
_KEPT = 1 << 18
"""Users and items whose text is kept."""
_TO_ESCAPE = r'["\\\x00-\x1f\x7f]'
_RESERVED = ("domain", "stage", "position", "propensity")
_SERVED = ("served_probability", "served_version")

_encode = msgspec.json.Encoder().encode


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One record to write."""

    topic: Literal[0, 1]
    """Index into the input topics: impressions, feedback."""
    partition: int
    key: bytes | None
    value: bytes
    written_ms: float = 0.0
    """When it is written, by the log's own clock."""


class _Texts:
    """What is said of each id of a table, as text; made when it is first asked for.

    Args:
        table: features by id.
        name: of the ids' column.
    """

    def __init__(self, table: FeatureTable, name: str) -> None:
        self.table, self._name = table, name
        self._known: dict[str, tuple[str, str]] = {}
        self.feature_names: set[str] = set()
        """Of all features so far."""

    def beside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """By row, `id`: the id as JSON, and `features`: its features as JSON without braces, unless they are dated."""
        ids = rows.select(self._name).unique()
        if len(self._known) > _KEPT:
            self._known.clear()
        id_texts, features = zip(*(self._known.get(key) or self._learn(key) for key in ids[self._name]), strict=True)
        texts = ids.with_columns(id=pl.Series(id_texts, dtype=pl.String), features=pl.Series(features, dtype=pl.String))
        return rows.select(self._name).join(texts, on=self._name, how="left", maintain_order="left")

    def _learn(self, key: str) -> tuple[str, str]:
        # Features that change with time are looked up event by event.
        features = {} if self.table.is_dated else self.table.get(key, 0)
        self.feature_names.update(features)
        found = self._known[key] = _text(key), _inner(features)
        return found


class Encoder:
    """Encodes the events of a log.

    Args:
        users: features by user.
        items: features by item.
        actions: of feedback, by rule.
        num_partitions: of the topics.
    """

    def __init__(self, users: FeatureTable, items: FeatureTable, actions: Sequence[str], num_partitions: int) -> None:
        self._users, self._items = _Texts(users, "user_id"), _Texts(items, "item_id")
        self._actions = pl.Series(["", *map(_text, actions)], dtype=pl.String)
        self._num_partitions = num_partitions

    def encode(
        self, rows: pl.DataFrame, events: Events, written: Sequence[float]
    ) -> Iterator[tuple[int, list[LogEntry]]]:
        """Records of events, in their order, some at a time, with the greatest number of a row among them.

        Args:
            rows: that the events are of; with the columns `row`, and `as_of` where features are not as of `ts`.
            events: to encode.
            written: when each is written, ms.
        """
        for start in range(0, len(events), _CHUNK):
            some = slice(start, start + _CHUNK)
            chunk = events.take(some)
            of_chunk = rows[chunk.row_N]
            yield int(of_chunk["row"].to_numpy().max()), self._encode(of_chunk, chunk, written[some])

    def _encode(self, rows: pl.DataFrame, events: Events, written: Sequence[float]) -> list[LogEntry]:
        values = self._values(rows, events).to_list()
        if events.damage_N.any():
            values = [damaged(v, d) if d else v for v, d in zip(values, events.damage_N.tolist(), strict=True)]
        users, count = rows["user_id"].to_list(), self._num_partitions
        return [
            LogEntry(1 if kind else 0, partition_of(user, count), user.encode(), value, when)
            for kind, user, value, when in zip(events.kind_N.tolist(), users, values, written, strict=True)
        ]

    def _values(self, rows: pl.DataFrame, events: Events) -> pl.Series:
        users, items = self._users.beside(rows), self._items.beside(rows)
        texts = pl.DataFrame(
            {
                "imp": _ids(rows["imp_id"]),
                "user": users["id"],
                "item": items["id"],
                "ts": events.ts_N,
                "features": self._features(rows, users["features"], items["features"]),
                "reserved": _reserved(rows),
                "is_impression": events.kind_N == IMPRESSION,
                "action": self._actions.gather(events.kind_N),
                "value": _feedback_values(rows, events),
            }
        )
        ids = (pl.lit(',"imp_id":'), "imp", pl.lit(',"user_id":'), "user", pl.lit(',"item_id":'), "item")
        shown = (pl.lit(',"ts":'), "ts", pl.lit(',"features":{'), "features", pl.lit("}"), "reserved", pl.lit("}"))
        acted = (pl.lit(',"action":'), "action", pl.lit(',"ts":'), "ts", "value", pl.lit("}"))
        impression = pl.concat_str(pl.lit('{"type":"impression"'), *ids, *shown)
        feedback = pl.concat_str(pl.lit('{"type":"feedback"'), *ids, *acted)
        return texts.select(
            pl.when("is_impression").then(impression).otherwise(feedback).cast(pl.Binary).alias("value")
        )["value"]

    def _features(self, rows: pl.DataFrame, users: pl.Series, items: pl.Series) -> pl.Series:
        """By event, the features of its user, its item and its row, as JSON without braces."""
        names = [name for name in rows.columns if name.startswith("feature.")]
        tables = self._users.table, self._items.table
        apart = self._users.feature_names.isdisjoint(self._items.feature_names)
        if apart and not (names or any(table.is_dated for table in tables)):
            both = pl.when((users != "") & (items != "")).then(pl.lit(",")).otherwise(pl.lit(""))
            return pl.select(pl.concat_str(users, both, items)).to_series()
        as_of = rows["as_of" if "as_of" in rows.columns else "ts"].to_list()
        of_users, of_items = (
            map(table.get, rows[name].to_list(), as_of)
            for table, name in zip(tables, ("user_id", "item_id"), strict=True)
        )
        of_rows: Iterable[dict[str, RawFeature]] = _dicts(rows, names) or repeat({})
        found = [_inner({**u, **i, **r}) for u, i, r in zip(of_users, of_items, of_rows, strict=False)]
        return pl.Series(found, dtype=pl.String)


def _ids(column: pl.Series) -> pl.Series:
    if column.str.contains(_TO_ESCAPE).any():
        return pl.Series([_text(i) for i in column.to_list()], dtype=pl.String)
    return '"' + column + '"'


def _reserved(rows: pl.DataFrame) -> pl.Series:
    """By event, an impression's reserved keys, each with a comma before it."""
    found = _dicts(rows, [name for name in (*_RESERVED, *_SERVED) if name in rows.columns])
    for said in found:
        probability, version = (said.pop(name, None) for name in _SERVED)
        if probability is not None:
            said["served"] = {"probability": probability, "version": version or 0}
    return _series([f",{_inner(said)}" if said else "" for said in found], len(rows))


def _feedback_values(rows: pl.DataFrame, events: Events) -> pl.Series:
    """By event, the value of feedback, with a comma before it."""
    names = [name for name in rows.columns if name.startswith("value.")]
    columns = {int(name.removeprefix("value.")) + 1: rows[name].to_list() for name in names}
    if not columns:
        return _series([], len(rows))
    found = (columns[k][n] if k in columns else None for n, k in enumerate(events.kind_N.tolist()))
    return _series(["" if value is None else f',"value":{_text(value)}' for value in found], len(rows))


def _series(texts: list[str], count: int) -> pl.Series:
    """As a column; nothing for each row where there are none at all."""
    return pl.Series(texts, dtype=pl.String) if texts else pl.repeat("", count, dtype=pl.String, eager=True)


def _dicts(rows: pl.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    """By row, what the named columns say, without what they leave open."""
    if not names:
        return []
    short = [name.removeprefix("feature.") for name in names]
    columns = zip(*(rows[name].to_list() for name in names), strict=True)
    return [{k: v for k, v in zip(short, values, strict=True) if v is not None} for values in columns]


def _text(value: object) -> str:
    return _encode(value).decode()


def _inner(mapping: Mapping[str, RawFeature]) -> str:
    return _text(mapping)[1:-1]


def damaged(value: bytes, damage: int) -> bytes:
    """A record of an event with something wrong, so that it is none any more.

    Args:
        value: JSON of an impression or of feedback.
        damage: decides what it is: cut off, a string where an object belongs, a key missing, not UTF-8.

    >>> for n in (8, 1, 2, 3):
    ...     damaged(b'{"type":"heartbeat","ts":5}', n)
    b'{"'
    b'"{\\\\"type\\\\":\\\\"heartbeat\\\\",\\\\"ts\\\\":5}"'
    b'{"ts":5}'
    b'{"type":"\\xffeartbeat","ts":5}'
    """
    kind, place = damage % 4, damage // 4
    if kind == 0:
        return value[: place % len(value)]
    if kind == 1:
        return _encode(value.decode())
    if kind == 2:
        event = msgspec.json.decode(value)
        del event[("type", "ts")[place % 2]]
        return _encode(event)
    text = value.index(b'":"') + 3
    return value[:text] + b"\xff" + value[text + 1 :]
