"""Joined samples as they leave the outbox."""

from enum import IntEnum

import msgspec

FeatureValue = None | str | float | list[str]


class SampleKind(IntEnum):
    """Why a sample was emitted. Each impression has one base sample, and at most one correction after it."""

    NEGATIVE = 0
    """Its window closed without positive feedback."""
    POSITIVE = 1
    CORRECTION = 2
    """Positive feedback came after the negative had left."""


class Core(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the impression itself said."""

    imp_id: str
    user_id: str
    item_id: str
    ts: int
    """Event time, ms."""
    produced_ms: int
    """Wall clock at which the impression was written to the log."""
    features: list[FeatureValue]
    """In the order of the declared fields, without user and item id."""


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was known of user and item just before the impression."""

    user_counts: list[int]
    """Impressions, then one count per action."""
    user_norm: float
    user_norm_version: int
    user_first_ts: int
    item_counts: list[int]
    item_norm: float
    item_norm_version: int
    negative_rate: float = 1.0
    """Share of the impressions like this one that may become negatives."""


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One labelled impression."""

    kind: SampleKind
    label: int
    delay_ms: int
    """Feedback time less impression time; -1 for a negative."""
    core: Core
    state: State


_decoder = msgspec.msgpack.Decoder(list[Sample])


def decode_samples(payload: bytes) -> list[Sample]:
    """Decode one outbox entry."""
    return _decoder.decode(payload)
