"""All records of a batch that are plain, read in one call."""

import numpy as np

from learner.tables.compiled import compiled, compiled_once
from stream.events import MAX_EVENT_BYTES
from stream.ingest.plain.cores import put_core
from stream.ingest.plain.declared import IMP, ITEM, USER, VALUE, Declared, Lot, Scratch
from stream.ingest.plain.events import (
    action_of,
    find_parts,
    find_served,
    has_ids,
    is_shown_plainly,
    time_of,
    type_of,
    value_of,
)
from stream.ingest.plain.features import find_values
from stream.ingest.plain.hashes import murmur2
from stream.join.kernels.words import FEEDBACK, HEARTBEAT

_POSITIVE = 0x7FFF_FFFF


@compiled_once
def _is_impression(text: np.ndarray, is_utf8: bool, declared: Declared, scratch: Scratch) -> bool:
    return (
        has_ids(scratch.parts_K2)
        and is_shown_plainly(text, declared, scratch.parts_K2)
        and find_served(text, is_utf8, declared, scratch)
        and find_values(text, is_utf8, declared, scratch)
    )


@compiled
def read_records(lot: Lot, declared: Declared, scratch: Scratch, found_N: np.ndarray, cores: np.ndarray) -> int:
    """Read what is plain; returns where the cores end.

    Args:
        lot: the records.
        declared: what the settings say.
        scratch: room for one record.
        found_N: written; `PLAIN_DTYPE`, zeros.
        cores: written: those of the impressions, one behind the other.
    """
    text, ends_N, is_utf8 = lot.text, lot.ends_N, lot.is_utf8
    at, core_end, parts_K2 = 0, 0, scratch.parts_K2
    for n in range(len(ends_N)):
        begin, at = at, ends_N[n]
        if at - begin > MAX_EVENT_BYTES or not find_parts(text, begin, at, is_utf8, declared, scratch):
            continue
        kind, ts, found = type_of(text, declared, parts_K2), time_of(text, parts_K2), found_N[n]
        if kind == 0 or not declared.min_ts <= ts <= lot.latest:
            continue
        if kind == HEARTBEAT:
            found.kind, found.ts = kind, ts
            continue
        if kind != lot.topic or not has_ids(parts_K2):
            continue
        found.value = np.nan
        if kind == FEEDBACK:
            what, value = action_of(text, declared, parts_K2), value_of(text, parts_K2)
            if what == 0 or (np.isnan(value) and parts_K2[VALUE, 0] >= 0):
                continue
            found.what, found.value = what, value
        else:
            if not _is_impression(text, is_utf8, declared, scratch):
                continue
            end = put_core(text, declared, scratch, ts, lot.produced_N[n], cores, core_end)
            found.what, core_end = end - core_end, end
        found.kind, found.ts = kind, ts
        for k, part in enumerate((IMP, USER, ITEM)):
            found_N[n].ids[k, 0], found_N[n].ids[k, 1] = parts_K2[part, 0], parts_K2[part, 1]
        if declared.num_partitions > 0:
            home = (murmur2(text, parts_K2[USER, 0], parts_K2[USER, 1]) & _POSITIVE) % declared.num_partitions
            found.is_misplaced = home != lot.partition
    return core_end
