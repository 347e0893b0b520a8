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
from simulators.schedule import Events
from stream.events import RawFeature
from stream.partitioning import partition_of

_CHUNK = 1 << 13
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


class _Texts(dict[str, tuple[str, str]]):
    """Id -> the id, and its features without braces, as JSON; made when first asked for."""

    def __init__(self, table: FeatureTable) -> None:
        super().__init__()
        self._table = table
        self.names: set[str] = set()
        """Of all features so far."""

    def __missing__(self, key: str) -> tuple[str, str]:
        # Features that change with time are looked up event by event.
        features = {} if self._table.is_dated else self._table.get(key, 0)
        self.names.update(features)
        found = self[key] = _text(key), _inner(features)
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
        self._users, self._items = users, items
        self._user_texts, self._item_texts = _Texts(users), _Texts(items)
        self._actions = ["", *map(_text, actions)]
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
        for texts in (self._user_texts, self._item_texts):
            if len(texts) > _KEPT:
                texts.clear()
        users = rows["user_id"].to_list()
        values = self._values(rows, events, users)
        if events.damage_N.any():
            values = [damaged(v, d) if d else v for v, d in zip(values, events.damage_N.tolist(), strict=True)]
        count = self._num_partitions
        return [
            LogEntry(1 if kind else 0, partition_of(user, count), user.encode(), value, when)
            for kind, user, value, when in zip(events.kind_N.tolist(), users, values, written, strict=True)
        ]

    def _values(self, rows: pl.DataFrame, events: Events, users: list[str]) -> list[bytes]:
        of_users = [self._user_texts[user] for user in users]
        of_items = [self._item_texts[item] for item in rows["item_id"].to_list()]
        actions = self._actions
        return [
            (
                f'{{"type":"feedback","imp_id":{imp},"user_id":{user},"item_id":{item},"action":{actions[kind]},'
                f'"ts":{ts}{value}}}'
                if kind
                else f'{{"type":"impression","imp_id":{imp},"user_id":{user},"item_id":{item},"ts":{ts},'
                f'"features":{{{features}}}{reserved}}}'
            ).encode()
            for kind, ts, imp, (user, _), (item, _), features, reserved, value in zip(
                events.kind_N.tolist(),
                events.ts_N.tolist(),
                _ids(rows["imp_id"]),
                of_users,
                of_items,
                self._features(rows, of_users, of_items),
                _reserved(rows),
                _feedback_values(rows, events),
                strict=False,
            )
        ]

    def _features(
        self, rows: pl.DataFrame, of_users: list[tuple[str, str]], of_items: list[tuple[str, str]]
    ) -> list[str]:
        """By event, the features of its user, its item and its row, as JSON without braces."""
        names = [name for name in rows.columns if name.startswith("feature.")]
        apart = self._user_texts.names.isdisjoint(self._item_texts.names)
        if apart and not (names or self._users.is_dated or self._items.is_dated):
            return [f"{u},{i}" if u and i else u or i for (_, u), (_, i) in zip(of_users, of_items, strict=True)]
        as_of = rows["as_of" if "as_of" in rows.columns else "ts"].to_list()
        users, items = (
            map(table.get, rows[name].to_list(), as_of)
            for table, name in ((self._users, "user_id"), (self._items, "item_id"))
        )
        of_rows: Iterable[dict[str, RawFeature]] = _dicts(rows, names) or repeat({})
        return [_inner({**u, **i, **r}) for u, i, r in zip(users, items, of_rows, strict=False)]


def _ids(column: pl.Series) -> list[str]:
    ids = column.to_list()
    return [_text(i) for i in ids] if column.str.contains(_TO_ESCAPE).any() else [f'"{i}"' for i in ids]


def _reserved(rows: pl.DataFrame) -> Iterator[str]:
    """By event, an impression's reserved keys, each with a comma before it."""
    for found in _dicts(rows, [name for name in (*_RESERVED, *_SERVED) if name in rows.columns]) or repeat({}):
        probability, version = (found.pop(name, None) for name in _SERVED) if found else (None, None)
        if probability is not None:
            found["served"] = {"probability": probability, "version": version or 0}
        yield f",{_inner(found)}" if found else ""


def _feedback_values(rows: pl.DataFrame, events: Events) -> Iterator[str]:
    """By event, the value of feedback, with a comma before it."""
    names = [name for name in rows.columns if name.startswith("value.")]
    if not names:
        return repeat("")
    columns = {int(name.removeprefix("value.")) + 1: rows[name].to_list() for name in names}
    found = (columns[k][n] if k in columns else None for n, k in enumerate(events.kind_N.tolist()))
    return ("" if value is None else f',"value":{_text(value)}' for value in found)


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
