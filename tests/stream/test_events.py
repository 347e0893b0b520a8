import msgspec
import pytest

from learner.config import FieldSettings
from stream.events import (
    MAX_EVENT_BYTES,
    Feedback,
    Impression,
    MalformedEventError,
    decode_event,
    encode_event,
)
from stream.features import FeatureExtractor

IMPRESSION = Impression(imp_id="a", user_id="u", item_id="i", ts=5, features={"age": 25, "genres": ["x", 2]})


def test_json_and_msgpack_decode_to_the_same_event() -> None:
    assert decode_event(encode_event(IMPRESSION)) == IMPRESSION
    assert decode_event(msgspec.msgpack.encode(IMPRESSION)) == IMPRESSION


def test_unknown_keys_are_ignored() -> None:
    value = b'{"type":"feedback","imp_id":"a","user_id":"u","item_id":"i","action":"like","ts":5,"new":{"x":1}}'
    assert decode_event(value) == Feedback(imp_id="a", user_id="u", item_id="i", action="like", ts=5)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "truncated"),
        (b"not json", "malformed"),
        (b'{"type":"purchase","ts":1}', "purchase"),
        (b'{"ts":1}', "missing required field `type`"),
        (b'{"imp_id":"a","user_id":"u","item_id":"i","ts":1}', "missing required field `type`"),
        (b'{"imp_id":"a","user_id":"u","item_id":"i","ts":1,"features":{"x":1e400}}', "type"),
        (b'{"type":"impression","user_id":"u","item_id":"i","ts":1}', "imp_id"),
        (b'{"type":"impression","imp_id":"a","user_id":"","item_id":"i","ts":1}', "$.user_id"),
        (b'{"type":"impression","imp_id":"a","user_id":"u","item_id":"i","ts":"1"}', "$.ts"),
        (b'{"type":"impression","imp_id":"a","user_id":"u","item_id":"i","ts":1e400}', "out of range"),
        (b'{"type":"heartbeat","ts":-1}', "$.ts"),
        (b'{"type":"heartbeat","ts":1,"x":' + b"[" * 100_000, "deep"),
        (b"[]", "array"),
        (b"\xff\xfe{}", ""),
        (b'{"type":"feedback","ts":1,"imp_id":"\xff"}', ""),
        (b"\x00" * (MAX_EVENT_BYTES + 1), "at most"),
    ],
)
def test_what_is_wrong_is_named(value: bytes | None, reason: str) -> None:
    with pytest.raises(MalformedEventError) as caught:
        decode_event(value)
    assert reason in str(caught.value)


def test_features_follow_the_declared_fields(fields: tuple[FieldSettings, ...]) -> None:
    extract = FeatureExtractor(fields).extract
    assert extract({"price": 3, "genres": ["a", 1], "age": 25, "unknown": "x"}) == ["25", ["a", "1"], 3.0]
    assert extract({"genres": "a", "age": None}) == [None, ["a"], None]


@pytest.mark.parametrize("features", [{"age": ["a"]}, {"price": "cheap"}, {"price": 1e300}, {"genres": ["a"] * 999}])
def test_a_feature_of_the_wrong_kind_is_named(fields: tuple[FieldSettings, ...], features: dict) -> None:
    with pytest.raises(MalformedEventError, match=next(iter(features))):
        FeatureExtractor(fields).extract(features)


# A feature's value, as it stands in JSON; what a pipeline that does not declare it has no business with.
ODD = {
    "object": b'{"lat":1.5}',
    "list of floats": b"[0.1,0.2]",
    "null in a list": b'["a",null]',
    "list of lists": b'[["i1",2]]',
    "true in a list": b"[true]",
    "beyond a float": b"1e400",
    "5000 digits": b"9" * 5000,
    "5000 digits, nested": b'{"n":[' + b"9" * 5000 + b"]}",
    "not UTF-8": b'"\xff"',
}


def _impression(name: str, value: bytes) -> bytes:
    return b'{"type":"impression","imp_id":"a","user_id":"u","item_id":"i","ts":5,"features":{"%s":%s,"year":1}}' % (
        name.encode(),
        value,
    )


@pytest.mark.parametrize("name", ODD)
def test_a_feature_that_nobody_declares_is_not_looked_at(name: str) -> None:
    extract = FeatureExtractor([FieldSettings("year", "item", "categorical")]).extract_from
    event = decode_event(_impression("other", ODD[name]))
    assert isinstance(event, Impression)
    assert (event.imp_id, event.ts, extract(event)) == ("a", 5, ["1"])


@pytest.mark.parametrize("kind", ["categorical", "multi", "numeric"])
@pytest.mark.parametrize("name", ODD)
def test_a_declared_feature_of_the_wrong_form_is_named(name: str, kind: str) -> None:
    field = FieldSettings("odd", "user", kind)
    event = decode_event(_impression("odd", ODD[name]))
    with pytest.raises(MalformedEventError, match=r"^features\.odd: "):
        FeatureExtractor([field]).extract_from(event)


def test_features_that_only_msgpack_has_are_not_looked_at_either() -> None:
    odd = {"ext": msgspec.msgpack.Ext(5, b"x"), "raw": b"\xff", "time": msgspec.msgpack.Ext(-1, b"xx"), 7: "x"}
    shown = {"type": "impression", "imp_id": "a", "user_id": "u", "item_id": "i", "ts": 5}
    event = decode_event(msgspec.msgpack.encode({**shown, "features": {**odd, "year": 1, "keys": {1: {(2, 3): 4}}}}))
    assert FeatureExtractor([FieldSettings("year", "item", "categorical")]).extract_from(event) == ["1"]
    for name in ("ext", "raw", "time"):
        with pytest.raises(MalformedEventError, match=rf"features\.{name}: "):
            FeatureExtractor([FieldSettings(name, "user", "categorical")]).extract_from(event)


def test_what_is_wrong_beside_an_odd_feature_is_still_named() -> None:
    value = b'{"type":"impression","imp_id":"a","user_id":"","item_id":"i","ts":5,"features":{"x":1e400}}'
    with pytest.raises(MalformedEventError, match=r"user_id"):
        decode_event(value)


def test_a_declared_number_that_is_too_long_to_write_is_named() -> None:
    """No event can carry one, but a scorer is called from code."""
    with pytest.raises(MalformedEventError, match=r"features\.age: a number of too many digits"):
        FeatureExtractor([FieldSettings("age", "user", "categorical")]).extract({"age": 10**5000})
