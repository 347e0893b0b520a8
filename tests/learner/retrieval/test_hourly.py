"""Retrieval in a stream: each hour is judged before it is learned from."""

import numpy as np
import pytest

from learner.retrieval.config import variant_of
from learner.retrieval.hourly import COHORTS, HOUR_MS, HourFigures, HourlyRetrieval, total
from learner.retrieval.interactions import Interactions
from learner.retrieval.model import TwoTower
from tests.learner.retrieval.tastes import ITEMS, USERS, entities, interactions
from tests.learner.retrieval.test_model import SMALL

SETTINGS = variant_of(SMALL, "full")


def run(samples: Interactions, cuts: list[int], **options: object) -> tuple[list[HourFigures], HourlyRetrieval]:
    stream = HourlyRetrieval(TwoTower(*entities(), SETTINGS), num=10, **options)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(samples.ts_N)], strict=True):
        found += stream.update(samples.take(slice(start, end)))
    return [*found, *stream.finish()], stream


def test_how_the_stream_is_cut_decides_nothing() -> None:
    samples = interactions(1200)
    whole, stream = run(samples, [])
    parts, other = run(samples, [1, 50, 50, 333, 1000])
    assert whole == parts
    np.testing.assert_array_equal(stream.model.state()["items_VD"], other.model.state()["items_VD"])
    assert [hour.hour_ms for hour in whole] == (np.unique(samples.ts_N // HOUR_MS) * HOUR_MS).tolist()
    assert sum(hour.num_samples for hour in whole) == 1200


def test_an_hour_is_judged_by_a_model_that_has_not_seen_it() -> None:
    """Its figures do not change with what its own samples, or later ones, would teach."""
    samples = interactions(600)
    hours = samples.ts_N // HOUR_MS
    last = hours == hours[-1]
    whole, _ = run(samples, [])
    before, stream = run(samples.take(~last), [])
    assert whole[:-1] == before
    # By hand, from the model as it was at the start of the last hour.
    mine = samples.take(last)
    users_E2, items_E2 = np.zeros((USERS, 2), int), np.zeros((ITEMS, 2), int)
    earlier = samples.take(~last)
    np.add.at(users_E2, earlier.users_N, np.stack([np.ones_like(earlier.labels_N), earlier.labels_N], 1))
    np.add.at(items_E2, earlier.items_N, np.stack([np.ones_like(earlier.labels_N), earlier.labels_N], 1))
    scores = stream.model.user_vectors(np.arange(USERS), users_E2) @ stream.model.item_vectors(items_E2).T
    recalls, found, positives = [], np.zeros(len(COHORTS), int), np.zeros(len(COHORTS), int)
    for user in np.unique(mine.users_N[mine.labels_N > 0]):
        seen = set(earlier.items_N[earlier.users_N == user].tolist())
        liked = set(mine.items_N[(mine.users_N == user) & (mine.labels_N > 0)].tolist())
        best = {i for _, i in sorted((-scores[user, i], i) for i in range(ITEMS) if i not in seen)[:10]}
        recalls.append(len(liked & best) / len(liked))
        for item in liked:
            cohort = sum(items_E2[item, 0] >= least for least in COHORTS) - 1
            positives[cohort] += 1
            found[cohort] += item in best
    assert whole[-1].num_users == len(recalls)
    assert whole[-1].recall == pytest.approx(np.mean(recalls))
    assert (whole[-1].found_C, whole[-1].positives_C) == (tuple(found.tolist()), tuple(positives.tolist()))


def test_it_learns_as_it_goes() -> None:
    hours, _ = run(interactions(2000), [], micro_batch=32)
    first, last = total(hours[:8]), total(hours[-8:])
    assert last.recall > first.recall
    assert last.ndcg > first.ndcg


def test_a_late_sample_counts_where_it_comes() -> None:
    samples = interactions(300)
    late = samples._replace(ts_N=samples.ts_N.copy())
    late.ts_N[200] = 0
    hours, _ = run(late, [200])
    assert [hour.hour_ms for hour in hours] == sorted(hour.hour_ms for hour in hours)
    assert sum(hour.num_samples for hour in hours) == 300


def test_items_may_come_again() -> None:
    once = interactions(200)
    twice = Interactions(*(np.concatenate([c, c]) for c in once))._replace(
        ts_N=np.concatenate([once.ts_N, once.ts_N + 50 * HOUR_MS])
    )
    never, _ = run(twice, [])
    again, _ = run(twice, [], again=True)
    positives = int(once.labels_N.sum())
    assert (sum(total(never).positives_C), sum(total(again).positives_C)) == (positives, 2 * positives)


def test_nothing_to_sum_up_is_said() -> None:
    stream = HourlyRetrieval(TwoTower(*entities(), SETTINGS))
    assert stream.finish() == []
    with pytest.raises(ValueError, match="the stream had no samples"):
        total([])
    with pytest.raises(ValueError, match="micro_batch must be >= 1, got 0"):
        HourlyRetrieval(stream.model, micro_batch=0)
