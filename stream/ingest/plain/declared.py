"""What compiled code has to know of a pipeline, and what it finds of each record.

Legend: N records, F declared fields but for user and item, K parts of a record.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.samples.keys import seed_of
from learner.samples.layout import Layout
from stream.join.kernels.words import FEEDBACK, HEARTBEAT, IMPRESSION
from stream.sections import EventSettings

PLAIN_DTYPE = np.dtype(
    [
        ("ts", "<i8"),
        ("value", "<f8"),
        ("what", "<i8"),
        ("ids", "<i8", (3, 2)),
        ("kind", "u1"),
        ("is_misplaced", "u1"),
    ],
    align=True,
)
"""A record: event time; the value of feedback (NaN: none); bytes of what samples carry of an impression, or which
action, from 1; where ids of impression, user and item are. `kind` is 0 where it is not plain."""

PARTS = (
    "type",
    "imp_id",
    "user_id",
    "item_id",
    "action",
    "domain",
    "stage",
    "features",
    "served",
    "ts",
    "value",
    "position",
    "propensity",
)
"""Keys of an event: five texts, two more that may be null, two objects, four numbers."""
TYPE, IMP, USER, ITEM, ACTION, DOMAIN, STAGE, FEATURES, SERVED, TS, VALUE, POSITION, PROPENSITY = range(len(PARTS))
SERVED_PARTS = ("probability", "version", "arm", "canary", "other", "other_version")
PROBABILITY, VERSION, ARM, CANARY, OTHER, OTHER_VERSION = range(len(SERVED_PARTS))
TYPES = ("impression", "feedback", "heartbeat")
NUMBERS_OF_TYPES = np.array([IMPRESSION, FEEDBACK, HEARTBEAT])

SINGLE, MULTI, NUMERIC = range(3)
"""Kinds of fields."""


class Names(NamedTuple):
    """Texts one behind the other."""

    texts: np.ndarray
    """uint8."""
    ends: np.ndarray
    """0, and where each ends."""


class Declared(NamedTuple):
    """What the settings say."""

    parts: Names
    served_parts: Names
    types: Names
    numbers_of_types: np.ndarray
    actions: Names
    fields: Names
    kinds_F: np.ndarray
    places_F: np.ndarray
    """Where in a core's fixed part a field has its key, its number, or how many values it has."""
    seeds_F: np.ndarray
    """Of keys; uint64."""
    id_places: np.ndarray
    """Of the keys of user and item."""
    id_seeds: np.ndarray
    shown_places: np.ndarray
    """Of position, propensity, then probability, version, arm, canary and other probability as served."""
    template: np.ndarray
    """The fixed part of an impression that says nothing but its ids; uint8."""
    tag: int
    num_actions: int
    are_places_fields: bool
    """Whether domain, stage or position are declared fields, too."""
    min_ts: int
    num_partitions: int
    """0: nobody looks where records lie."""


class Lot(NamedTuple):
    """Records that are read together."""

    text: np.ndarray
    """uint8: of all of them, one behind the other."""
    ends_N: np.ndarray
    """Where each ends."""
    produced_N: np.ndarray
    """Wall clocks at which they were written; 0: not known."""
    topic: int
    """IMPRESSION or FEEDBACK: what comes in their topic."""
    partition: int
    """Where they lie."""
    latest: int
    """Event times behind it are not plain."""
    is_utf8: bool
    """Whether all of the text is UTF-8."""


class Scratch(NamedTuple):
    """What is found of one record before it is written."""

    parts_K2: np.ndarray
    """Where each part is, -1 if it is not there, -2 if it is null; texts without their quotes."""
    served_K2: np.ndarray
    values_F2: np.ndarray


def names_of(texts: Iterable[str]) -> Names:
    """Texts as compiled functions take them."""
    encoded = [text.encode() for text in texts]
    return Names(
        np.frombuffer(b"".join(encoded), np.uint8).copy(), np.array([0, *accumulate(map(len, encoded))], np.int64)
    )


def scratch_for(declared: Declared) -> Scratch:
    """Room for one record."""
    return Scratch(*(np.zeros((num, 2), np.int64) for num in (len(PARTS), len(SERVED_PARTS), len(declared.kinds_F))))


def declared_by(
    layout: Layout, fields: Sequence[FieldSettings], limits: EventSettings, num_partitions: int
) -> Declared:
    """What the settings say.

    Args:
        layout: of the samples, without codes.
        fields: declared fields of a sample.
        limits: bounds on event time.
        num_partitions: of the input topics, to notice records in a partition not their user's; 0: nobody looks.
    """
    own = {field.name: n for n, field in enumerate(fields)}
    others = [field for field in fields if field.name not in ("user_id", "item_id")]
    kinds = {"numeric": NUMERIC, "multi": MULTI}
    at_keys, at_numbers, at_sizes = (layout.core_place(name) for name in ("keys", "numbers", "sizes"))
    places = {n: at_keys + 8 * k for k, n in enumerate(layout.single)}
    places |= {n: at_numbers + 4 * k for k, n in enumerate(layout.numeric)}
    places |= {n: at_sizes + 2 * k for k, n in enumerate(layout.multi)}
    shown = ("position", "propensity", "served_probability", "served_version", "served_arm", "served_canary")
    return Declared(
        parts=names_of(PARTS),
        served_parts=names_of(SERVED_PARTS),
        types=names_of(TYPES),
        numbers_of_types=NUMBERS_OF_TYPES,
        actions=names_of(layout.actions),
        fields=names_of(field.name for field in others),
        kinds_F=np.array([kinds.get(field.kind, SINGLE) for field in others], np.int64),
        places_F=np.array([places[own[field.name]] for field in others], np.int64),
        seeds_F=np.array([seed_of(field.name) for field in others], np.uint64),
        id_places=np.array([places[own[name]] for name in ("user_id", "item_id")], np.int64),
        id_seeds=np.array([seed_of(name) for name in ("user_id", "item_id")], np.uint64),
        shown_places=np.array([layout.core_place(name) for name in (*shown, "served_other")], np.int64),
        template=np.frombuffer(layout.core_template, np.uint8).copy(),
        tag=layout.tag,
        num_actions=len(layout.actions),
        are_places_fields=any(field.name in ("domain", "stage", "position") for field in fields),
        min_ts=limits.min_ts_ms,
        num_partitions=num_partitions,
    )
