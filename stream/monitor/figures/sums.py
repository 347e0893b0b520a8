"""Samples -> the sums of a bucket: figures by cohort, by n-th impression, by day of arrival, and their replicates."""

import numpy as np

from learner.metrics import sampling_weights
from stream.monitor.figures.bootstrap import replicate_weights
from stream.monitor.figures.bucket import (
    ARRIVAL_DAYS,
    BENEFIT,
    BENEFIT_SQUARED,
    BENEFIT_WEIGHT,
    COUNT,
    LOSS,
    LOSS_SQUARED,
    NTH_COLUMNS,
    NUM_BINS,
    POSITIVE,
    PREDICTED,
    RANK_UAUC,
    REFERENCE_LOSS,
    UAUC,
    UAUC_WEIGHT,
    WEIGHT,
    Bucket,
)
from stream.monitor.figures.cohorts import CohortScheme, sum_by_cohort, sum_by_index
from stream.monitor.figures.rows import FIRST_TS, LABEL, ONCE, PREDICTION, RANK, RATE, REFERENCE, SIGN, TS, USER_N
from stream.monitor.figures.user_auc import UserAuc

_DAY_MS = 86_400_000
_EPS = 1e-6


class Sums:
    """Adds samples up.

    Args:
        scheme: the cohorts.
        one_in: one user of so many is in the UAUC and the bootstrap.
    """

    def __init__(self, scheme: CohortScheme, one_in: int) -> None:
        self._scheme = scheme
        self._one_in = one_in
        self._user_auc, self._rank_auc = UserAuc(), UserAuc()

    def add(
        self, bucket: Bucket, rows: np.ndarray, columns: np.ndarray, hashes: np.ndarray, cohorts_3N: np.ndarray
    ) -> np.ndarray:
        """Take N samples into a bucket; returns what came to its sums, shape (C, M).

        Args:
            bucket: takes them.
            rows: shape (NUM_COLUMNS, N).
            columns: as of a bucket's sums, shape (M, N); what the model knew of each sample is there, the rest is
                filled in here.
            hashes: of the users, shape (N,).
            cohorts_3N: of each sample.
        """
        num_cohorts = len(self._scheme)
        label, predictions_2N = rows[LABEL], rows[[PREDICTION, REFERENCE]]
        weight = rows[SIGN] * sampling_weights(label, rows[RATE])
        p_2N = np.clip(predictions_2N.astype(np.float32), _EPS, 1 - _EPS)
        losses_2N = -np.log(np.where(label > 0, p_2N, 1 - p_2N))
        benefit = losses_2N[1] - losses_2N[0]
        columns[COUNT], columns[WEIGHT], columns[POSITIVE] = rows[ONCE], weight, weight * label
        columns[PREDICTED], columns[LOSS] = weight * rows[PREDICTION], weight * losses_2N[0]
        columns[LOSS_SQUARED], columns[REFERENCE_LOSS] = weight * losses_2N[0] ** 2, weight * losses_2N[1]
        columns[BENEFIT_SQUARED] = weight * benefit**2
        new_CM = sum_by_cohort(columns, cohorts_3N, num_cohorts)
        bucket.sums_CM += new_CM
        chosen = np.flatnonzero(hashes % self._one_in == 0)
        if len(chosen):
            self._add_replicates(bucket, rows[:, chosen], benefit[chosen], hashes[chosen], cohorts_3N[:, chosen])
        bins_2N = np.minimum((predictions_2N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        of_cohort_3N = (cohorts_3N * 2 + (label > 0)) * NUM_BINS
        weight_3N = np.tile(weight, 3)
        for which, bins in enumerate(bins_2N):
            counted = np.bincount((of_cohort_3N + bins).ravel(), weight_3N, num_cohorts * 2 * NUM_BINS)
            bucket.histogram_2C2K[which] += counted.reshape(num_cohorts, 2, NUM_BINS)
        self._add_passage(bucket, rows, columns[:NTH_COLUMNS], cohorts_3N[0])
        return new_CM

    def _add_replicates(
        self, bucket: Bucket, rows: np.ndarray, benefit: np.ndarray, hashes: np.ndarray, cohorts_3N: np.ndarray
    ) -> None:
        """UAUC and benefit of the users chosen for it: the figure itself, and each replicate's.

        Args:
            bucket: takes them.
            rows: shape (NUM_COLUMNS, N), of these users alone.
            benefit: loss of the reference less the model's, shape (N,).
            hashes: of the users, shape (N,).
            cohorts_3N: their cohorts.
        """
        values_5N = np.zeros((5, len(hashes)))
        weight = sampling_weights(rows[LABEL], rows[RATE])
        # A turned label has been ranked when its impression was.
        base = rows[ONCE] > 0
        for column, auc, at in ((PREDICTION, self._user_auc, UAUC), (RANK, self._rank_auc, RANK_UAUC)):
            # Predictions as they are kept in the rows of open negatives, so that a late label finds its own.
            predictions = rows[column][base].astype(np.float32)
            shares = np.full(len(hashes), -1.0)
            shares[base] = auc.update(hashes[base], predictions, rows[LABEL][base], weight[base])
            values_5N[UAUC_WEIGHT] = weight * (shares >= 0)
            values_5N[at] = shares * values_5N[UAUC_WEIGHT]
        values_5N[BENEFIT_WEIGHT] = rows[SIGN] * weight
        values_5N[BENEFIT] = benefit * values_5N[BENEFIT_WEIGHT]
        replicated = (values_5N[:, None] * replicate_weights(hashes).T).reshape(-1, len(hashes))
        summed_C5R = sum_by_cohort(replicated, cohorts_3N, len(self._scheme)).reshape(len(self._scheme), 5, -1)
        bucket.replicates_CR5 += summed_C5R.transpose(0, 2, 1)

    def _add_passage(self, bucket: Bucket, rows: np.ndarray, columns: np.ndarray, user_cohorts: np.ndarray) -> None:
        """By n-th impression, and by arrival day and cohort: how users pass from cold to warm."""
        nth = rows[USER_N].astype(np.int64)
        early = np.flatnonzero(nth < len(bucket.nth_NM))
        bucket.nth_NM += sum_by_index(columns.take(early, 1), nth[early], len(bucket.nth_NM))
        days = np.where(rows[FIRST_TS] > 0, rows[FIRST_TS], rows[TS]).astype(np.int64) // _DAY_MS
        oldest = int(days.max(initial=0)) - ARRIVAL_DAYS + 1
        recent, num_users = np.flatnonzero(days >= oldest), self._scheme.num_users
        place = (days[recent] - oldest) * num_users + user_cohorts[recent]
        sums = sum_by_index(columns.take(recent, 1), place, ARRIVAL_DAYS * num_users)
        sums_DUM = sums.reshape(ARRIVAL_DAYS, num_users, -1)
        for day in np.flatnonzero(sums_DUM.any((1, 2))).tolist():
            bucket.arrival(oldest + day)[:] += sums_DUM[day]

    def turn(self, user: int, prediction: float, rank: float) -> None:
        """A negative of a user's has become a positive.

        Args:
            user: hash of the user.
            prediction: of the negative.
            rank: its rank score.
        """
        if user % self._one_in == 0:
            self._user_auc.turn(user, prediction)
            self._rank_auc.turn(user, rank)
