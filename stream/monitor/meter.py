"""The meter in the learner: predictions made before learning, summed up by cohort; no second pass of the model."""

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl

from learner.learner import Learned
from learner.metrics import sampling_weights
from learner.sample import Sample, SampleKind
from stream.monitor.bootstrap import replicate_weights, user_hashes
from stream.monitor.bucket import (
    ADAPTER,
    ARRIVAL_DAYS,
    BENEFIT,
    BENEFIT_SQUARED,
    COUNT,
    ITEM_NORM,
    LOSS,
    LOSS_SQUARED,
    NTH_COLUMNS,
    NUM_BINS,
    POSITIVE,
    PREDICTED,
    REFERENCE_LOSS,
    UAUC,
    UNSEEN_ITEM,
    UNSEEN_USER,
    USER_NORM,
    WEIGHT,
    Bucket,
)
from stream.monitor.cohorts import Cohort, CohortScheme, sum_by_cohort
from stream.monitor.config import MonitorSettings
from stream.monitor.drift import DriftWatch
from stream.monitor.freshness import FeatureMeter
from stream.monitor.rows import (
    FIRST_TS,
    ITEM_N,
    LABEL,
    NUM_COLUMNS,
    ONCE,
    PREDICTION,
    RATE,
    REFERENCE,
    SIGN,
    TS,
    USER_N,
    OpenNegatives,
    rows_of,
)
from stream.monitor.twin_feed import TwinFeed
from stream.monitor.user_auc import UserAuc

_DAY_MS = 86_400_000
_EPS = 1e-6
_FOLD_AT = 2000
_ONE_IN = 8
"""One user of so many is in the UAUC, the bootstrap and the ages of norms, which are dear."""
_FEATURES_ONE_IN = 8
"""One micro-batch of so many says how fresh its features are."""
_WATCHED = [WEIGHT, POSITIVE, PREDICTED, LOSS, REFERENCE_LOSS]


class _Seen(msgspec.Struct, frozen=True):
    """A micro-batch that waits to be summed up."""

    samples: Sequence[Sample]
    learned: Learned
    reference_B: np.ndarray
    age_ms: float


class Meter:
    """Collects samples and folds them into buckets.

    Args:
        settings: the monitor section.
        num_fields: F.
        feed: gets the samples that the frozen twin scores, too.
        watch: whether to look for drift.
        one_in: one user of so many is in the UAUC, the bootstrap and the ages of norms.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        num_fields: int,
        *,
        feed: TwinFeed | None = None,
        watch: bool = True,
        one_in: int = _ONE_IN,
    ) -> None:
        self._settings = settings
        self._num_fields = num_fields
        self._feed = feed
        self._one_in = one_in
        self.scheme = CohortScheme(settings)
        watched = [Cohort("all", "samples"), *self.scheme.cohorts] if watch else []
        self._watches = [DriftWatch(cohort, settings) for cohort in watched]
        self._user_auc = UserAuc()
        self._features = FeatureMeter(num_fields)
        self._open = OpenNegatives()
        self._seen: list[_Seen] = []
        self._num_seen = 0
        self._bucket = self._new_bucket(0)
        self._done: list[Bucket] = []
        self._late_labels = 0
        self.alarms: list[str] = []

    # What an earlier process knew ---------------------------------------------------------------------------------

    def remember(self, predictions: pl.DataFrame, buckets: Sequence[Bucket] = ()) -> None:
        """Go on where an earlier meter was: late labels find their negatives, and the drift detectors their past.

        Args:
            predictions: rows of the prediction log, oldest first.
            buckets: the newest ones, oldest first.
        """
        self._open.remember(predictions)
        for bucket in buckets:
            if bucket.sums_CM.shape == self._bucket.sums_CM.shape:
                self._watch(bucket.sums_CM)
        # They were told then.
        self.alarms.clear()
        self._bucket.alarms.clear()

    def published(self, version: int, now_ms: int) -> None:
        """Weights were published, and with them norms, whose age at use can be told from now on."""
        self._features.published(version, now_ms)

    # Collecting -----------------------------------------------------------------------------------------------------

    def observe(
        self,
        samples: Sequence[Sample],
        learned: Learned,
        reference_B: np.ndarray,
        version: int,
        now_ms: int,
        *,
        age_ms: float = 0.0,
    ) -> None:
        """Take a micro-batch in.

        Args:
            samples: B of them.
            learned: what the learner predicted before learning from them.
            reference_B: what the model is compared with predicted for them.
            version: weights last published.
            now_ms: wall clock.
            age_ms: age of the reference's weights, event time.
        """
        if not self._bucket.start_ms:
            self._bucket.start_ms = now_ms
        self._seen.append(_Seen(samples, learned, reference_B, age_ms))
        self._num_seen += len(samples)
        self._bucket.version = version
        ends = now_ms - self._bucket.start_ms >= self._settings.bucket_s * 1000
        if self._num_seen >= _FOLD_AT or ends:
            self.fold()
        if ends:
            self._close(now_ms)

    def pass_over(self, num_samples: int, now_ms: int) -> None:
        """Count impressions that the reference could not predict."""
        if not self._bucket.start_ms:
            self._bucket.start_ms = now_ms
        self._bucket.unscored += num_samples

    def _new_bucket(self, now_ms: int) -> Bucket:
        bucket = Bucket(len(self.scheme), self._num_fields, self._settings.nth_impressions, self.scheme.num_users)
        bucket.start_ms = bucket.end_ms = now_ms
        return bucket

    # Folding --------------------------------------------------------------------------------------------------------

    def fold(self) -> None:
        """Sum up what was collected.

        All at once: what a micro-batch costs is paid by some thirty of them together.
        """
        if not self._seen:
            return
        seen, self._seen, self._num_seen = self._seen, [], 0
        samples = [sample for one in seen for sample in one.samples]
        hashes = user_hashes([sample.core.user_id for sample in samples])
        if self._feed is not None:
            self._feed.observe(samples, np.concatenate([one.learned.predictions_B for one in seen]), hashes)
        rows, extras = self._collect(samples, seen, hashes)
        for one in seen[::_FEATURES_ONE_IN]:
            self._features.observe(one.samples, one.learned)
        bucket = self._bucket
        bucket.age_ms += float(np.repeat([one.age_ms for one in seen], [len(one.samples) for one in seen]) @ rows[ONCE])
        bucket.late_labels += self._late_labels
        self._late_labels = 0
        event_times = rows[TS][rows[ONCE] > 0]
        if len(event_times):
            bucket.first_ts = int(min(bucket.first_ts or event_times[0], event_times.min()))
            bucket.last_ts = int(max(bucket.last_ts, event_times.max()))
        self._features.fold(bucket)
        self._fold_uauc(rows, hashes)
        # A turned label is two entries: its negative with a negative weight, and a positive.
        turned = np.flatnonzero(rows[SIGN] < 0)
        positive = rows[:, turned].copy()
        positive[SIGN], positive[LABEL] = 1.0, 1.0
        rows = np.concatenate([rows, positive], axis=1)
        extras = np.concatenate([extras, np.zeros((len(extras), len(turned)))], axis=1)
        hashes = np.concatenate([hashes, hashes[turned]])
        used = rows[RATE] > 0
        self._fold_sums(rows[:, used], extras[:, used], hashes[used])

    def _collect(
        self, samples: Sequence[Sample], seen: Sequence[_Seen], hashes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns that say what was predicted, shape (NUM_COLUMNS, N), and what the model knew, shape (4 + F, N)."""
        learned = [one.learned for one in seen]
        labels = np.concatenate([one.labels_B for one in learned])
        predictions = np.concatenate([one.predictions_B for one in learned])
        counts = np.concatenate([one.counts_BC for one in learned])
        rows = rows_of(samples, labels, predictions, np.concatenate([one.reference_B for one in seen]), counts)
        extras = np.zeros((4 + self._num_fields, len(samples)))
        extras[:2] = np.concatenate([one.unseen_B2 for one in learned]).T
        extras[2:4] = np.concatenate([one.norms_B2 for one in learned]).T
        weights = [one.weight_BF for one in learned if one.weight_BF is not None]
        if len(weights) == len(learned):
            extras[4:] = np.concatenate(weights).T
        self._open.keep(samples, rows, np.flatnonzero(labels == 0).tolist())
        for n, sample in enumerate(samples):
            if sample.kind is SampleKind.CORRECTION:
                rows[:, n] = self._turn(sample.core.imp_id, int(hashes[n]))
                extras[:, n] = 0.0
        return rows, extras

    def _turn(self, imp_id: str, user: int) -> np.ndarray:
        """The row of a negative whose label came late, to be counted as a positive; `fold` takes the negative back."""
        row = self._open.turn(imp_id)
        if row is None:
            self._late_labels += 1
            return np.zeros(NUM_COLUMNS)
        if user % self._one_in == 0:
            self._user_auc.turn(user, float(row[PREDICTION]))
        return row

    def _fold_uauc(self, rows: np.ndarray, hashes: np.ndarray) -> None:
        chosen = np.flatnonzero((hashes % self._one_in == 0) & (rows[ONCE] > 0))
        if not len(chosen):
            return
        # As they are kept in the rows of open negatives, so that a late label finds its own.
        predictions = rows[PREDICTION][chosen].astype(np.float32)
        weights = sampling_weights(rows[LABEL][chosen], rows[RATE][chosen])
        shares = self._user_auc.update(hashes[chosen], predictions, rows[LABEL][chosen], weights)
        counted = shares >= 0
        chosen, shares, weights = chosen[counted], shares[counted], weights[counted]
        self._add_replicates(UAUC, shares, weights, hashes[chosen], self._cohorts(rows[:, chosen]))

    def _cohorts(self, rows: np.ndarray) -> np.ndarray:
        return self.scheme.assign(rows[USER_N], rows[ITEM_N], rows[TS], rows[FIRST_TS])

    def _add_replicates(
        self, column: int, values: np.ndarray, weights: np.ndarray, hashes: np.ndarray, cohorts_3N: np.ndarray
    ) -> None:
        """Add values and their weights, times each replicate's weight of the user, to two columns of the replicates."""
        weights_RN = replicate_weights(hashes).T * weights
        both = np.concatenate([weights_RN * values, weights_RN])
        summed_C2R = sum_by_cohort(both, cohorts_3N, len(self.scheme)).reshape(len(self.scheme), 2, -1)
        self._bucket.replicates_CR4[:, :, column : column + 2] += summed_C2R.transpose(0, 2, 1)

    def _fold_sums(self, rows: np.ndarray, extras: np.ndarray, hashes: np.ndarray) -> None:
        bucket = self._bucket
        label, once = rows[LABEL], rows[ONCE]
        weight = rows[SIGN] * sampling_weights(label, rows[RATE])
        losses = []
        for column in (PREDICTION, REFERENCE):
            p = np.clip(rows[column], _EPS, 1 - _EPS)
            losses.append(-np.log(np.where(label > 0, p, 1 - p)))
        benefit = losses[1] - losses[0]
        columns = np.empty((ADAPTER + self._num_fields, rows.shape[1]), np.float32)
        columns[COUNT], columns[WEIGHT], columns[POSITIVE] = once, weight, weight * label
        columns[PREDICTED], columns[LOSS] = weight * rows[PREDICTION], weight * losses[0]
        columns[LOSS_SQUARED], columns[REFERENCE_LOSS] = weight * losses[0] ** 2, weight * losses[1]
        columns[BENEFIT_SQUARED] = weight * benefit**2
        for at, column in enumerate((UNSEEN_USER, UNSEEN_ITEM, USER_NORM, ITEM_NORM)):
            columns[column] = extras[at]
        columns[ADAPTER:] = extras[4:]
        cohorts_3N = self._cohorts(rows)
        new_CM = sum_by_cohort(columns, cohorts_3N, len(self.scheme))
        bucket.sums_CM += new_CM
        chosen = np.flatnonzero(hashes % self._one_in == 0)
        self._add_replicates(BENEFIT, benefit[chosen], weight[chosen], hashes[chosen], cohorts_3N[:, chosen])
        num_cohorts = len(self.scheme)
        for which, column in enumerate((PREDICTION, REFERENCE)):
            bins = np.minimum((rows[column] * NUM_BINS).astype(np.int64), NUM_BINS - 1)
            index = ((cohorts_3N * 2 + (label > 0)) * NUM_BINS + bins).ravel()
            counted = np.bincount(index, np.tile(weight, 3), num_cohorts * 2 * NUM_BINS)
            bucket.histogram_2C2K[which] += counted.reshape(num_cohorts, 2, NUM_BINS)
        self._fold_passage(rows, columns, cohorts_3N[0])
        self._watch(new_CM)

    def _watch(self, new_CM: np.ndarray) -> None:
        overall_M = new_CM[: self.scheme.num_users].sum(0)
        for watch, sums_M in zip(self._watches, [overall_M, *new_CM], strict=False):
            for alarm in watch.update(*sums_M[_WATCHED].tolist()):
                self._bucket.alarms.append(alarm)
                self.alarms.append(alarm)

    def _fold_passage(self, rows: np.ndarray, columns: np.ndarray, user_cohorts: np.ndarray) -> None:
        """By n-th impression, and by arrival day and cohort: how users pass from cold to warm."""
        bucket = self._bucket
        nth = rows[USER_N].astype(np.int64)
        early = nth < len(bucket.nth_NM)
        days = np.where(rows[FIRST_TS] > 0, rows[FIRST_TS], rows[TS]).astype(np.int64) // _DAY_MS
        oldest = days.max(initial=0) - ARRIVAL_DAYS
        for column in range(NTH_COLUMNS):
            bucket.nth_NM[:, column] += np.bincount(nth[early], columns[column][early], len(bucket.nth_NM))
        for day in np.unique(days[days > oldest]):
            of_day = days == day
            for column in range(NTH_COLUMNS):
                bucket.arrival(int(day))[:, column] += np.bincount(
                    user_cohorts[of_day], columns[column][of_day], self.scheme.num_users
                )

    def _close(self, now_ms: int) -> None:
        self._bucket.end_ms = now_ms
        if self._bucket.sums_CM.any() or self._bucket.unscored:
            self._done.append(self._bucket)
        self._bucket = self._new_bucket(now_ms)

    def cut(self, now_ms: int) -> list[Bucket]:
        """Buckets since the last call, the open one with them."""
        self.fold()
        self._close(now_ms)
        if len(self._done) > 1 and self._done[-1].end_ms - self._done[-1].start_ms < self._settings.bucket_s * 500:
            # Less than half a bucket is left over: its figures would be noise.
            fragment = self._done.pop()
            self._done[-1].add(fragment)
        done, self._done = self._done, []
        return done
