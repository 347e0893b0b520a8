"""Compile, or load, everything before the first sample comes."""

import time

import numpy as np

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings
from learner.fast.block import block_of
from learner.fast.config import CrossSettings, FastRecipe
from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.fast.model import FastPart
from learner.samples.columns import no_samples
from learner.samples.layout import Layout
from learner.tables.ids import Ids
from learner.tables.table import EVERYONE

_FIELDS = (FieldSettings("user_id", "user", "id"), FieldSettings("item_id", "item", "id", min_count=2))
_MANY = 2000
"""More ids than an index has room for at first, so that growth is compiled, too."""


def warm_up() -> float:
    """Run every compiled function on a few samples; returns the seconds it took.

    Half a minute at most where nothing is cached, under two seconds where an earlier process has left its code.
    """
    began = time.perf_counter()
    settings = FastRecipe(
        factors=2,
        gate_batch=1,
        crosses=(CrossSettings(("user_id", "item_id")),),
        max_rows=2 * _MANY,
        max_cross_rows=2 * _MANY,
        counted_ids=8,
        content_start=ContentStartSettings(method="zero", max_items=2 * _MANY, buckets=16),
    )
    part = FastPart(settings, _FIELDS, num_signals=1)
    keys_N = np.arange(1, 2 * _MANY + 1, dtype=np.uint64)
    values = Ids(np.arange(0, 2 * _MANY + 1, 2), keys_N, (keys_N + 1) % 2, np.ones(2 * _MANY))
    for learning in (True, False):
        found = part.look_up(values, np.arange(_MANY), learning=learning, names={"item": [""] * _MANY})
        part.learn(block_of(*found, labels_B=np.zeros(_MANY), signals_BS=np.zeros((_MANY, 1))))
    table = part.table
    table.take_touched(EVERYONE)
    table.take_changes()
    table.evict(_MANY // 2, _MANY)
    table.take_evicted()
    table.drop(keys_N[-2:])
    table.put(keys_N[-2:], np.zeros(2), {})
    part.restore(part.state())
    layout = Layout(_FIELDS, ("like",))
    occurrences_of(no_samples(layout), plan_of(layout))
    return time.perf_counter() - began
