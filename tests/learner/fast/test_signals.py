"""State signals and levels, against plain Python."""

import math

import numpy as np
import pytest
from support.columns import columns

from learner.fast.config import FastSettings
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.signals import SIGNALS, signals_of
from learner.samples.columns import Samples
from tests.learner.fast.records import FIELDS, HOUR_MS, changed, make_records

ACTIONS = ("like", "share", "click")
MAX_COUNT = 2**32 - 1
NOW = 1_700_000_000_000
USER_COUNTS = [[0, 0, 0, 0], [1, 1, 0, 0], [7, 2, 1, 3], [MAX_COUNT, 5, 0, 1], [3, 0, 0, 0], [12, 1, 1, 1]]
# More feedback than impressions: several actions of one impression, or counters that were restored.
ITEM_COUNTS = [
    [0, 0, 0, 0],
    [5, 0, 0, 0],
    [100, 20, 3, 50],
    [MAX_COUNT, MAX_COUNT, 1, MAX_COUNT],
    [2, 3, 0, 4],
    [9, 4, 1, 4],
]
LAST = [0, NOW - 1_500, NOW - 9 * HOUR_MS, NOW + 10_000, NOW, NOW - 1]
FIRST = [0, NOW - 1_500, NOW - 90 * HOUR_MS, NOW + 10_000, NOW - HOUR_MS, 1]


def make_samples() -> Samples:
    records = [
        changed(record, ts=NOW, user_counts=user, item_counts=item)
        for record, user, item in zip(make_records(6), USER_COUNTS, ITEM_COUNTS, strict=True)
    ]
    samples = columns(records, FIELDS, ACTIONS)
    samples.rows_B["user_last_ts"], samples.rows_B["user_first_ts"] = LAST, FIRST
    return samples


def by_hand(b: int, positive: tuple[int, ...]) -> dict[str, float]:
    user, item = USER_COUNTS[b][0], ITEM_COUNTS[b][0]
    liked = min(sum(ITEM_COUNTS[b][1 + action] for action in positive), item)
    gap_s = max(NOW - LAST[b], 0) / 1000 if LAST[b] else 0
    account_h = max(NOW - FIRST[b], 0) / HOUR_MS if FIRST[b] else 0
    return {
        "user_count": math.log(1 + user),
        "user_inverse": 1 / (1 + user),
        "item_count": math.log(1 + item),
        "item_inverse": 1 / (1 + item),
        "item_positives": math.log(1 + liked),
        "item_rate": math.log((liked + 2.5) / (item - liked + 2.5)),
        "user_gap": math.log(1 + gap_s),
        "user_pace": math.log(1 + account_h * 3600 / max(user, 1)),
        "account_age": math.log(1 + account_h),
    }


@pytest.mark.parametrize("positive", [(0,), (2,), (0, 2), (2, 1, 0)])
def test_signals_are_what_their_names_say(positive: tuple[int, ...]) -> None:
    samples, names = make_samples(), tuple(SIGNALS)
    expected = [list(by_hand(b, positive).values()) for b in range(6)]
    assert set(by_hand(0, positive)) == set(SIGNALS)
    got = signals_of(samples, tuple(by_hand(0, positive)), positive)
    assert (got.shape, got.dtype) == ((6, len(names)), np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(got).all()


def test_signals_come_in_the_order_in_which_they_are_named() -> None:
    samples = make_samples()
    some = signals_of(samples, ("item_rate", "user_count"), (0,))
    np.testing.assert_array_equal(some[:, ::-1], signals_of(samples, ("user_count", "item_rate"), (0,)))
    assert signals_of(samples, (), (0,)).shape == (6, 0)
    assert signals_of(samples.slice(0, 0), tuple(SIGNALS), (0,)).shape == (0, len(SIGNALS))


def test_every_signal_that_settings_may_name_is_there() -> None:
    assert set(FastSettings().gate_signals) <= set(SIGNALS)


def test_levels_begin_at_their_bounds() -> None:
    counts = [0, 1, 2, 3, 4, 9, 10, 11, 99, 100, 101, MAX_COUNT]
    record = make_records(1)[0]
    records = [
        changed(record, imp_id=str(n), user_counts=[count, 7, 7, 7], item_counts=[counts[-1 - n], 7, 7, 7])
        for n, count in enumerate(counts)
    ]
    samples = columns(records, FIELDS, ACTIONS)
    got = levels_of(samples, (1, 3, 10, 100), (2, 100))
    assert (got.shape, got.dtype) == ((12, 2), np.int64)
    assert got[:, 0].tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert got[::-1, 1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]
    assert not levels_of(samples, (), ()).any()
    assert levels_of(samples.slice(0, 0), (1,), (1,)).shape == (0, 2)
    default = FastSettings()
    highest = levels_of(samples, default.user_levels, default.item_levels)[-1]
    assert highest[0] == len(default.user_levels)
