"""Two-tower retrieval in a stream: recall@N and NDCG@N as of each hour of event time, before the hour is learned from.

When an hour ends, user and item vectors as of its start say what each of its users would have been given; its positives
are what was relevant. Then the model learns the hour's samples, in order, with the counts as of each. So vectors are
never more than an hour old, nothing of an hour is known when it is judged, and each sample is learned from once.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.retrieval.interactions import Interactions, Pairs, counts_before
from learner.retrieval.model import TwoTower
from learner.retrieval.ranking import grouped, hits, ndcg, recall, relevant_of
from learner.retrieval.search import exact_top, popular_top

HOUR_MS = 3_600_000
COHORTS = (0, 1, 10, 50, 200)
"""Least earlier impressions of the items of each cohort."""


class HourFigures(msgspec.Struct, frozen=True):
    """One hour of event time."""

    hour_ms: int
    """Its start, UTC."""
    num_samples: int
    num_users: int
    """Users with a positive."""
    recall_sum: float
    """Sum over these of recall@N."""
    ndcg_sum: float
    """Likewise of NDCG@N."""
    popular_recall_sum: float
    """Likewise of recall@N, had each been given the items with most positives before the hour."""
    found_C: tuple[int, ...]
    """Positives that were among the N of their user, by cohort of the item as of the hour's start."""
    positives_C: tuple[int, ...]

    @property
    def recall(self) -> float:
        """Mean over users with a positive; NaN if there is none."""
        return self.recall_sum / self.num_users if self.num_users else float("nan")

    @property
    def ndcg(self) -> float:
        """Likewise."""
        return self.ndcg_sum / self.num_users if self.num_users else float("nan")

    @property
    def popular_recall(self) -> float:
        """Likewise, of the most popular items."""
        return self.popular_recall_sum / self.num_users if self.num_users else float("nan")


def total(hours: Sequence[HourFigures]) -> HourFigures:
    """Several hours as one: means over all their users' hours.

    Raises:
        ValueError: no hour is given.
    """
    if not hours:
        raise ValueError("there is no hour to sum up: the stream had no samples")
    return HourFigures(
        hours[0].hour_ms,
        sum(hour.num_samples for hour in hours),
        sum(hour.num_users for hour in hours),
        sum(hour.recall_sum for hour in hours),
        sum(hour.ndcg_sum for hour in hours),
        sum(hour.popular_recall_sum for hour in hours),
        tuple(map(sum, zip(*(hour.found_C for hour in hours), strict=True))),
        tuple(map(sum, zip(*(hour.positives_C for hour in hours), strict=True))),
    )


class HourlyRetrieval:
    """Judges and teaches a model hour by hour; how the stream is cut into calls decides nothing.

    Args:
        model: new, or as trained before.
        num: N.
        again: whether users may be given items that they have had an interaction with before the hour; else such
            items are not relevant either.
        micro_batch: samples per step; those of an hour are cut into as many as it takes.
    """

    def __init__(self, model: TwoTower, *, num: int = 50, again: bool = False, micro_batch: int = 256) -> None:
        if micro_batch < 1:
            raise ValueError(f"micro_batch must be >= 1, got {micro_batch}")
        self.model = model
        self._num, self._again, self._micro_batch = num, again, micro_batch
        self._user_counts_E2 = np.zeros((len(model.users), 2), np.int64)
        self._item_counts_E2 = np.zeros((len(model.items), 2), np.int64)
        self._seen: dict[int, list[np.ndarray]] = {}
        self._waiting: list[Interactions] = []
        self._hour: int | None = None

    def update(self, samples: Interactions) -> list[HourFigures]:
        """Take samples in; returns the figures of the hours that have ended.

        Args:
            samples: in the order of time, behind those of the former call. One that is late counts into the hour in
                which it comes.
        """
        if not len(samples.ts_N):
            return []
        hours_N = np.maximum.accumulate(samples.ts_N // HOUR_MS)
        if self._hour is not None:
            hours_N = np.maximum(hours_N, self._hour)
        ended = []
        begins = np.flatnonzero(np.diff(hours_N, prepend=hours_N[:1] - 1)).tolist()
        for start, end in zip(begins, [*begins[1:], len(hours_N)], strict=True):
            hour = int(hours_N[start])
            if self._hour is not None and hour != self._hour:
                ended += self.finish()
            self._hour = hour
            self._waiting.append(samples.take(slice(start, end)))
        return ended

    def finish(self) -> list[HourFigures]:
        """End the hour that is still open; returns its figures, of which there are none if nothing waits."""
        if not self._waiting or self._hour is None:
            return []
        samples = Interactions(*(np.concatenate(columns) for columns in zip(*self._waiting, strict=True)))
        self._waiting = []
        figures = self._judge(samples, self._hour)
        self._learn(samples)
        return [figures]

    def _judge(self, samples: Interactions, hour: int) -> HourFigures:
        positives = samples.take(samples.labels_N > 0)
        users_G, relevant, without = relevant_of(positives.users_N, positives.items_N, self._seen_by)
        found_C = positives_C = np.zeros(len(COHORTS), np.int64)
        recall_sum = ndcg_sum = popular_sum = 0.0
        if len(users_G):
            users_GE = self.model.user_vectors(users_G, self._user_counts_E2[users_G])
            items_IE = self.model.item_vectors(self._item_counts_E2)
            found_GN, _ = exact_top(users_GE, items_IE, self._num, without=without)
            popular_GN, _ = popular_top(len(users_G), self._item_counts_E2, self._num, without=without)
            popular_sum = float(recall(popular_GN, relevant).sum())
            recall_sum = float(recall(found_GN, relevant).sum())
            ndcg_sum = float(ndcg(found_GN, relevant).sum())
            found_C = self._by_cohort(found_GN[hits(found_GN, relevant)])
            positives_C = self._by_cohort(np.concatenate(relevant))
        return HourFigures(
            hour * HOUR_MS,
            len(samples.labels_N),
            len(users_G),
            recall_sum,
            ndcg_sum,
            popular_sum,
            tuple(found_C.tolist()),
            tuple(positives_C.tolist()),
        )

    def _by_cohort(self, items_P: np.ndarray) -> np.ndarray:
        cohorts_P = np.searchsorted(COHORTS, self._item_counts_E2[items_P, 0], side="right") - 1
        return np.bincount(cohorts_P, minlength=len(COHORTS))

    def _seen_by(self, users_G: np.ndarray) -> list[np.ndarray]:
        nothing = [np.zeros(0, np.int64)]
        return [np.concatenate(self._seen.get(user, nothing)) for user in users_G.tolist()]

    def _learn(self, samples: Interactions) -> None:
        for start in range(0, len(samples.labels_N), self._micro_batch):
            users_B, items_B, labels_B, _ = samples.take(slice(start, start + self._micro_batch))
            sides = (users_B, self._user_counts_E2), (items_B, self._item_counts_E2)
            before = [counts_before(entities_B, labels_B, counts_E2) for entities_B, counts_E2 in sides]
            self.model.learn(Pairs(users_B, items_B, labels_B, *before), self._item_counts_E2)
            for entities_B, counts_E2 in sides:
                np.add.at(counts_E2, entities_B, np.stack([np.ones_like(labels_B), labels_B], axis=1).astype(np.int64))
        if not self._again:
            for user, items in zip(*grouped(samples.users_N, samples.items_N), strict=True):
                self._seen.setdefault(int(user), []).append(items)
