"""Outcomes of what was served: what a plain pass over the samples says, whatever the blocks, and after a restart."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.columns import columns

from learner.config import FieldSettings
from learner.learned import Learned, learned_of
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.keys import arm_key, value_key
from learner.samples.kind import SampleKind
from stream.predictions.columns import log_columns
from stream.predictions.log import PredictionLog, read_predictions
from stream.served import ServedOutcomes
from stream.training.served.outcomes import OutcomeJoin

FIELDS = (FieldSettings("user_id", "user", "id"), FieldSettings("item_id", "item", "id"))
NEGATIVE, POSITIVE, CORRECTION = SampleKind.NEGATIVE, SampleKind.POSITIVE, SampleKind.CORRECTION


class Impression(msgspec.Struct, frozen=True):
    imp: int
    kind: SampleKind
    served: tuple[float, int, str, bool, float | None] | None
    progressive: float


@st.composite
def streams(draw: st.DrawFn) -> list[list[Impression]]:
    """Blocks of base samples, and behind those, perhaps in the same block, corrections of some negatives."""
    told: list[Impression] = []
    for imp in range(draw(st.integers(1, 12))):
        shown = st.tuples(
            st.floats(0, 1),
            st.integers(0, 2**53),
            st.sampled_from(["", "a", "b"]),
            st.booleans(),
            st.none() | st.floats(0, 1),
        )
        kind = draw(st.sampled_from([NEGATIVE, NEGATIVE, POSITIVE]))
        served, finite = draw(st.none() | shown), draw(st.integers(0, 5))
        told.append(Impression(imp, kind, served, draw(st.floats(0, 1, width=32)) if finite else float("nan")))
    late = [msgspec.structs.replace(one, kind=CORRECTION, progressive=0.5) for one in told if one.kind == NEGATIVE]
    stream = told[:]
    for one in late:
        if draw(st.booleans()):
            stream.insert(draw(st.integers(stream.index(one_of(told, one.imp)) + 1, len(stream))), one)
    cuts = sorted(draw(st.lists(st.integers(1, len(stream)), max_size=4)))
    bounds = [0, *cuts, len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds) if a < b]


def one_of(told: list[Impression], imp: int) -> Impression:
    return next(one for one in told if one.imp == imp)


def block_of(block: list[Impression]) -> tuple[Samples, Learned]:
    made = []
    for one in block:
        label = int(one.kind != NEGATIVE)
        core = Core(str(one.imp), f"u{one.imp % 3}", "i", 1000 + one.imp, 0, [])
        state = State([one.imp, 0], 0.0, 0, 900, [2 * one.imp, 0], 0.0, 0, 0.5)
        made.append(Sample(one.kind, label, 0, core, state))
    samples = columns(made, FIELDS)
    rows = samples.rows_B
    for n, one in enumerate(block):
        if one.served is not None:
            probability, version, arm, canary, other = one.served
            rows["served_probability"][n], rows["served_version"][n], rows["served_arm"][n] = (
                probability,
                version,
                arm_key(arm),
            )
            rows["served_canary"][n], rows["served_other"][n] = canary, np.nan if other is None else other
    return samples, learned_of(samples, np.array([one.progressive for one in block], np.float32))


def expected(blocks: list[list[Impression]]) -> list[tuple[object, ...]]:
    """As a reader would do it by hand: each outcome, its sign, whether it is late."""
    found: list[tuple[object, ...]] = []
    for block in blocks:
        late: list[tuple[object, ...]] = []
        for one in block:
            if one.served is None or (one.kind != CORRECTION and np.isnan(one.progressive)):
                continue
            base = next(b for several in blocks for b in several if b.imp == one.imp and b.kind != CORRECTION)
            if one.kind != CORRECTION:
                found.append(as_told(base, label=one.kind == POSITIVE, sign=1, late=False))
            elif not np.isnan(base.progressive):
                late += [as_told(base, label=label, sign=sign, late=True) for label, sign in ((False, -1), (True, 1))]
        found += late
    return found


def as_told(one: Impression, *, label: bool, sign: int, late: bool) -> tuple[object, ...]:
    assert one.served is not None
    probability, version, arm, canary, other = one.served
    of_user = value_key("user_id", f"u{one.imp % 3}"), one.imp, 2 * one.imp, 900
    return (
        *of_user, probability, version, str(float("nan") if other is None else other), arm_key(arm), canary,
        label, sign, late, 0.5, float(np.float32(one.progressive)), 1000 + one.imp,
    )  # fmt: skip


def told(outcomes: ServedOutcomes) -> list[tuple[object, ...]]:
    values = {name: getattr(outcomes, name).tolist() for name in outcomes.__struct_fields__}
    values["other_N"] = [str(value) for value in values["other_N"]]
    return list(zip(*values.values(), strict=True))


def joined(join: OutcomeJoin, blocks: list[list[Impression]]) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for block in blocks:
        outcomes = join.join(*block_of(block))
        assert (outcomes is None) == all(one.served is None for one in block)
        found += [] if outcomes is None else told(outcomes)
    return found


@settings(max_examples=60, deadline=None)
@given(streams())
def test_outcomes_are_those_of_a_plain_pass(blocks: list[list[Impression]]) -> None:
    assert joined(OutcomeJoin(), blocks) == expected(blocks)


@settings(max_examples=15, deadline=None)
@given(blocks=streams(), after=st.integers(0, 5))
def test_a_label_that_comes_after_a_restart_finds_its_negative(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[Impression]], after: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("log")
    log, place = PredictionLog(folder, keep=9), 0
    for block in blocks[:after]:
        samples, learned = block_of(block)
        places = np.zeros(len(block), np.int64), np.arange(place, place + len(block))
        log.append(log_columns(samples, places, learned.predictions_B, learned.ranks_B, learned.ranks_B, 0))
        place += len(block)
    log.flush(1)
    join = OutcomeJoin()
    join.remember(read_predictions(folder))
    before = len(expected(blocks[:after]))
    assert joined(join, blocks[after:]) == expected(blocks)[before:]


def test_the_log_says_what_was_served_and_nothing_where_nothing_was(tmp_path: Path) -> None:
    block = [
        Impression(0, POSITIVE, (0.25, 2**53, "wide", True, None), 0.5),
        Impression(1, NEGATIVE, None, 0.5),
        Impression(2, NEGATIVE, (0.0, 0, "", False, 0.75), 0.5),
    ]
    samples, learned = block_of(block)
    log, places = PredictionLog(tmp_path, keep=9), (np.zeros(3, np.int64), np.arange(3))
    logged = log_columns(samples, places, learned.predictions_B, learned.ranks_B, learned.ranks_B, 0)
    log.append(logged.take(np.array([True, True, False])))
    log.append(logged.take(np.array([False, False, True])))
    log.flush(1)
    PredictionLog(tmp_path, keep=9).flush(2)
    names = ["served_probability", "served_version", "served_arm", "served_canary", "served_other"]
    assert read_predictions(tmp_path).select(names).rows() == [
        (0.25, 2**53, arm_key("wide"), True, None),
        (None, None, None, None, None),
        (0.0, 0, 0, False, 0.75),
    ]


def test_a_log_of_a_former_version_is_read_beside_todays(tmp_path: Path) -> None:
    samples, learned = block_of([Impression(0, POSITIVE, (0.25, 3, "", False, None), 0.5)])
    log, places = PredictionLog(tmp_path, keep=9), (np.zeros(1, np.int64), np.arange(1))
    log.append(log_columns(samples, places, learned.predictions_B, learned.ranks_B, learned.ranks_B, 0))
    log.flush(2)
    whole = read_predictions(tmp_path)
    whole.select(name for name in whole.columns if not name.startswith("served_")).write_parquet(
        tmp_path / "000000000001.parquet"
    )
    assert read_predictions(tmp_path)["served_probability"].to_list() == [None, 0.25]
    join = OutcomeJoin()
    join.remember(read_predictions(tmp_path))
