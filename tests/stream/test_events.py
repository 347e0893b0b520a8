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
