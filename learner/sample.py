"""Joined samples as they leave the outbox."""

from enum import IntEnum

import msgspec

FeatureValue = None | str | float | list[str]


class SampleKind(IntEnum):
    """Why a sample was emitted. Each impression has one base sample, at most one correction after it, and for each task
    but the main one at most two samples that say what became of it."""

    NEGATIVE = 0
    """Its window closed without positive feedback."""
    POSITIVE = 1
    CORRECTION = 2
    """Positive feedback came after the negative had left."""
    TASK_CORRECTION = 3
    """Another task's label came to be known after the base sample had left, or turned; `task` says which."""


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an impression was shown, as far as its event says."""

    domain: str | None = None
    stage: str | None = None
    position: int | None = None
    propensity: float | None = None
    served_probability: float | None = None
    served_version: int | None = None


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
    shown: Shown | None = None


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
    """Of the main task; of the task that is corrected, if it is another."""
    delay_ms: int
    """Feedback time less impression time; -1 for a negative."""
    core: Core
    state: State
    labels: int = 0
    """Bit t: the label of task t, if it is known."""
    known: int = 0
    """Bit t: whether the label of task t is known yet; 0 where there is one task only, which is."""
    task: int = 0
    """Index of the task that the sample is about."""
    values: list[float | None] | None = None
    """Value of the feedback that the sample knows of, per action; None where none of it has one."""


_decoder = msgspec.msgpack.Decoder(list[Sample])


def decode_samples(payload: bytes) -> list[Sample]:
    """Decode one outbox entry."""
    return _decoder.decode(payload)
