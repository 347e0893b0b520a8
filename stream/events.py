"""Events as they stand in Kafka, and their decoding. One event per record, JSON or msgpack, told apart by first byte.

A tagged union on `type`. Unknown keys are ignored; a missing or mistyped one is named in the error. What lies in
`features` is looked at by whoever declares it (`stream/features.py`). Event time `ts` is integer UTC milliseconds.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=256)]
EventTime = Annotated[int, Meta(ge=0, le=2**53)]
Word = Annotated[str, Meta(min_length=1, max_length=256)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
RawFeature = None | bool | str | int | float | list[str | int]
"""A value that a declared field can take."""

PLACES = ("domain", "stage", "position")
"""Keys of an impression, where it was shown, that are features, too, if fields are declared by these names."""

MAX_EVENT_BYTES = 1 << 20
"""A record longer than this is a dead letter."""

MAX_RECORD_BYTES = 16 << 20
"""Longest record that the dead-letter topic takes, and that workers send."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What the impression was decided by."""

    probability: Annotated[float, Meta(ge=0, le=1)]
    """As the scorer gave it."""
    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Of the weights."""
    arm: Annotated[str, Meta(max_length=64)] = ""
    """Name of the arm of an experiment; empty: of none."""
    canary: bool = False
    """Whether the user is in the canary share, and got the newest version."""
    other: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Probability that the version which it is compared with gave the same candidate; of canary users only."""
    other_version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Of those weights."""


class Impression(msgspec.Struct, frozen=True, kw_only=True, tag="impression"):
    """An item was shown to a user. Keyed by `user_id`."""

    imp_id: Id
    """Unique per impression. A retry of the same impression carries the same id and the same `ts`."""
    user_id: Id
    item_id: Id
    ts: EventTime
    features: dict[str, Any] = {}
    """Values of the declared fields, by name, as they were when the item was shown (`RawFeature`). What else a producer
    puts here may have any form."""
    domain: Word | UnsetType | None = UNSET
    """Which of several sites, apps or tabs. Like `stage` and `position` it is a field, too, if one is declared so."""
    stage: Word | UnsetType | None = UNSET
    """Which step of a funnel: recall, ranking, ..."""
    position: Annotated[int, Meta(ge=0, le=1 << 20)] | UnsetType | None = UNSET
    """Place in the list that was shown, from 0."""
    propensity: Annotated[float, Meta(gt=0, le=1)] | UnsetType | None = UNSET
    """Probability with which the item was chosen to be shown."""
    served: Served | UnsetType | None = UNSET


class Feedback(msgspec.Struct, frozen=True, kw_only=True, tag="feedback"):
    """A user acted on an impression. Keyed by `user_id`, so that it lies in its impression's partition."""

    imp_id: Id
    user_id: Id
    item_id: Id
    action: Id
    ts: EventTime
    value: Number | UnsetType | None = UNSET
    """How much of it: seconds watched, stars given, a price."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """A producer's word that event time has come to `ts` in this partition of this topic (a punctuation)."""

    ts: EventTime


Event = Impression | Feedback | Heartbeat


class _Unread(Impression, frozen=True, kw_only=True, tag="impression"):
    """An impression whose features are still as they came."""

    features: dict[Any, msgspec.Raw] = {}


class Unreadable(msgspec.Struct, frozen=True):
    """A feature whose value nothing can hold, as a number of 5000 digits; no matter unless it is declared."""

    why: str


_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_json = msgspec.json.Decoder(Event)
_msgpack = msgspec.msgpack.Decoder(Event)
# A struct alone would be taken without its `type`; one of several is not.
_unread_json = msgspec.json.Decoder(_Unread | Feedback | Heartbeat)
_unread_msgpack = msgspec.msgpack.Decoder(_Unread | Feedback | Heartbeat)


class MalformedEventError(ValueError):
    """A record that is no event; the message says why."""


def decode_event(value: bytes | None) -> Event:
    """Decode one record's value.

    Raises:
        MalformedEventError: no value, too long, not JSON or msgpack, or not of an event's form.

    >>> decode_event(b'{"type":"heartbeat","ts":5}')
    Heartbeat(ts=5)
    >>> decode_event(b'{"type":"feedback","imp_id":"a","user_id":1,"item_id":"i","action":"like","ts":5}')
    Traceback (most recent call last):
    stream.events.MalformedEventError: Expected `str`, got `int` - at `$.user_id`
    """
    if not value:
        raise MalformedEventError("empty value")
    if len(value) > MAX_EVENT_BYTES:
        raise MalformedEventError(f"{len(value)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    try:
        # A msgpack map starts with 0x80..0x8f, 0xde or 0xdf; no JSON text does.
        event: Event = _msgpack.decode(value) if value[0] >= 0x80 else _json.decode(value)
    except _ERRORS as exc:
        # It may be a feature that nobody declares: then the event is well.
        read = _without_unreadable(value)
        if read is None:
            raise MalformedEventError(_said(exc)) from exc
        return read
    return event


def _said(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"not UTF-8: {exc.reason} at byte {exc.start}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def _without_unreadable(value: bytes) -> Impression | None:
    """The impression with each feature read by itself; None if more than its features is wrong."""
    is_msgpack = value[0] >= 0x80
    try:
        event = (_unread_msgpack if is_msgpack else _unread_json).decode(value)
    except _ERRORS:
        return None
    if not isinstance(event, _Unread):
        return None
    decode = msgspec.msgpack.decode if is_msgpack else msgspec.json.decode
    features: dict[str, Any] = {}
    for name, raw in event.features.items():
        try:
            features[name] = decode(raw)
        except _ERRORS as exc:
            features[name] = Unreadable(_said(exc))
    fields = {name: getattr(event, name) for name in Impression.__struct_fields__ if name != "features"}
    return Impression(**fields, features=features)


_encoder = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """Encode as JSON.

    >>> encode_event(Heartbeat(ts=5))
    b'{"type":"heartbeat","ts":5}'
    """
    return _encoder.encode(event)
