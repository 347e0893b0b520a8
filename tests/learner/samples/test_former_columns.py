"""Columns as the former version of the layout left them, which had no arm, no canary and no other version."""

import numpy as np
import pytest
from support.former import as_version_1

from learner.config import FieldSettings
from learner.samples.columns import LayoutError, concatenate, decode, of_cores
from learner.samples.former import read_entry
from learner.samples.layout import Layout

ACTIONS = ("like", "share")
TEXT = ["25", ["x", "y"], 2.5]
WRITTEN = bytes.fromhex(
    "435343318f399626020000001500000010000000a161a175a169a3746162c0a2c3a9a2c3bca16ac0c06f71eaca52f37ed16ede3666ca473e"
    "9a00000000000000000000000000000000000000000000000000000000000010a5d4e80000004d10a5d4e80000001f4e961eb632c6e60300"
    "0000000000000000e03f000000000000d03f04000000000000005b90a18ab9c27220c8b7f957781041357a6de4a113a46aa9000020400200"
    "0100000002000000030000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000e03f01010000000000000000000000000000000000000000000000000000000110a5d4e80000000000000000000000b30cf1"
    "6c000a94f7ffffffff000000000000f87f000000000000f87fffffffffffffffff6edbbd495f102713b383918ec35c643a00000000000000"
    "000000c07f000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000f03f"
)
"""By a worker of that version, with the fields of these tests."""


def test_what_a_worker_of_that_version_wrote_is_read(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS)
    samples = read_entry(WRITTEN, layout)
    cores = [
        layout.pack_core("a", "u", "i", (10**12, 10**12 + 77), TEXT, ("tab", None, 3, 0.5, 0.25, 4, "", False, None)),
        layout.pack_core("é", "ü", "j", (10**12 + 1, 0), [None, None, None]),
    ]
    wanted = of_cores(cores, layout)
    wanted.rows_B["kind"] = wanted.rows_B["label"] = [0, 1]
    wanted.rows_B["user_counts"][0], wanted.rows_B["negative_rate"] = [1, 2, 3], [0.5, 1]
    assert samples.encode() == wanted.encode()
    # From there on they are like any others.
    assert len(concatenate([samples, wanted])) == 4


def test_both_versions_hold_the_same_but_for_what_came_since(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS)
    shown = ("tab", "rank", 3, 0.5, 0.25, 4, "wide", True, 0.75)
    today = of_cores([layout.pack_core("a", "u", "i", (5, 6), TEXT, shown)], layout)
    former = read_entry(as_version_1(today), layout)
    came_since = ("served_arm", "served_canary", "served_other")
    for name in layout.dtype.names or ():
        same = np.array_equal(former.rows_B[name], today.rows_B[name])
        assert same != (name in came_since), name
    assert former.texts == today.texts
    assert former.keys_M.tolist() == today.keys_M.tolist()


def test_a_former_entry_of_other_fields_or_cut_short_is_refused(fields: tuple[FieldSettings, ...]) -> None:
    with pytest.raises(LayoutError, match="start the learner with the settings"):
        decode(WRITTEN, Layout(fields[:-1], ACTIONS))
    with pytest.raises(LayoutError, match="it was cut"):
        decode(WRITTEN[:-1], Layout(fields, ACTIONS))
