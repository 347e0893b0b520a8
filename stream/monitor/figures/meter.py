"""The meter in the learner: predictions made before learning, summed up by cohort; no second pass of the model."""

from collections.abc import Sequence
from itertools import chain, compress
from typing import Protocol

import msgspec
import numpy as np
import polars as pl

from learner.learned import Learned
from learner.samples.columns import Samples
from stream.monitor.figures.bootstrap import hashes_of
from stream.monitor.figures.bucket import (
    LOSS,
    POSITIVE,
    PREDICTED,
    REFERENCE_LOSS,
    WEIGHT,
    Bucket,
    Stretches,
)
from stream.monitor.figures.cohorts import Cohort, CohortScheme
from stream.monitor.figures.drift import DriftWatch
from stream.monitor.figures.freshness import FeatureMeter
from stream.monitor.figures.rows import (
    FIRST_TS,
    ITEM_N,
    LABEL,
    NUM_COLUMNS,
    ONCE,
    PREDICTION,
    RANK,
    RATE,
    SIGN,
    TS,
    USER_N,
    OpenNegatives,
    known_of,
    rows_of,
)
from stream.monitor.figures.sums import Sums
from stream.predictions.columns import Logged
from stream.sections import MonitorSettings

_SUMMED_AT_ONCE = 2000
"""Samples that are summed up together, as many as the caches hold."""
_WAITING = 8
"""So many times as many wait, and are summed up one after the other: each time, the model's weights and rows are thrown
out of the caches, and fetching them again is dear, too."""
_ONE_IN = 8
"""One user of so many is in the UAUC, the bootstrap and the ages of norms, which are dear."""
_WATCHED = [WEIGHT, POSITIVE, PREDICTED, LOSS, REFERENCE_LOSS]


class _Seen(msgspec.Struct):
    """Blocks that wait to be summed up.

    Columns, and not the samples: to look up ids in them once more would cost more than all the sums, and so does it to
    free them when they have left the processor's caches.
    """

    logged: list[Logged] = msgspec.field(default_factory=list)
    learned: list[Learned] = msgspec.field(default_factory=list)
    hashes: list[np.ndarray] = msgspec.field(default_factory=list)
    """Of the samples' users."""
    num_samples: int = 0
    age_ms: float = 0.0
    """Ages of the reference's weights, summed over the samples that count as impressions."""


class Listener(Protocol):
    """Is handed each block as it comes, before anything is summed up."""

    def observe(self, samples: Samples, predictions_N: np.ndarray) -> None:
        """Take N samples in."""


class Meter:
    """Collects samples and folds them into buckets.

    Args:
        settings: the monitor section.
        num_fields: F.
        num_weights: weights that the model gives its parts by state.
        feed: gets the samples that the frozen twin scores, too.
        watch: whether to look for drift.
        one_in: one user of so many is in the UAUC, the bootstrap and the ages of norms.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        num_fields: int,
        num_weights: int,
        *,
        feed: Listener | None = None,
        watch: bool = True,
        one_in: int = _ONE_IN,
    ) -> None:
        self._settings = settings
        self._num_fields, self._num_weights = num_fields, num_weights
        self._feed = feed
        self.scheme = CohortScheme(settings)
        watched = [Cohort("all", "samples"), *self.scheme.cohorts] if watch else []
        self._watches = [DriftWatch(cohort, settings) for cohort in watched]
        self._block_WM = np.zeros((len(watched), len(_WATCHED)))
        self._sums = Sums(self.scheme, one_in)
        self._features = FeatureMeter(num_fields)
        self._open = OpenNegatives()
        self._seen: list[_Seen] = []
        self._stretches = Stretches(self._new_bucket, settings.bucket_s * 1000)
        self._late_labels = 0
        self.alarms: list[str] = []

    @property
    def _bucket(self) -> Bucket:
        return self._stretches.open

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
        logged: Logged,
        samples: Samples,
        learned: Learned,
        version: int,
        now_ms: int,
        *,
        age_ms: float = 0.0,
    ) -> None:
        """Take a block in.

        Args:
            logged: what is logged of B samples; the baseline is what the model is compared with.
            samples: the samples themselves.
            learned: what the learner predicted before learning from them.
            version: weights last published.
            now_ms: wall clock.
            age_ms: age of the reference's weights, event time.
        """
        self._stretches.begin(now_ms)
        if not self._seen or self._seen[-1].num_samples >= _SUMMED_AT_ONCE:
            self._seen.append(_Seen())
        seen = self._seen[-1]
        seen.logged.append(logged)
        seen.learned.append(learned)
        seen.hashes.append(hashes_of(samples.user_keys))
        seen.num_samples += len(samples)
        if self._feed is not None:
            self._feed.observe(samples, learned.predictions_B)
        if age_ms:
            seen.age_ms += age_ms * (len(samples) - int(learned.corrections_B.sum()))
        self._features.observe(samples, learned)
        self._bucket.version = version
        ends = self._stretches.is_due(now_ms)
        if ends or (len(self._seen) == _WAITING and seen.num_samples >= _SUMMED_AT_ONCE):
            self.fold()
        if ends:
            self._close(now_ms)

    def pass_over(self, num_samples: int, now_ms: int) -> None:
        """Count impressions that the reference could not predict."""
        self._stretches.begin(now_ms)
        self._bucket.unscored += num_samples

    def _new_bucket(self) -> Bucket:
        nth, num_users = self._settings.nth_impressions, self.scheme.num_users
        return Bucket(len(self.scheme), self._num_fields, nth, num_users, self._num_weights)

    # Folding --------------------------------------------------------------------------------------------------------

    def fold(self) -> None:
        """Sum up what was collected."""
        waiting, self._seen = self._seen, []
        for seen in waiting:
            self._sum_up(seen)

    def _sum_up(self, seen: _Seen) -> None:
        hashes = np.concatenate(seen.hashes)
        rows, turned = self._collect(seen.learned, seen.logged, hashes)
        cohorts_3N = self.scheme.assign(rows[USER_N], rows[ITEM_N], rows[TS], rows[FIRST_TS])
        self._note(rows, seen.age_ms)
        columns = known_of(seen.learned, self._num_weights, rows.shape[1], turned)
        hashes = np.concatenate([hashes, hashes[turned]])
        used = rows[RATE] > 0
        if not used.all():
            rows, columns, hashes, cohorts_3N = rows[:, used], columns[:, used], hashes[used], cohorts_3N[:, used]
        self._watch(self._sums.add(self._bucket, rows, columns, hashes, cohorts_3N))

    def _collect(
        self, learned: Sequence[Learned], logged: Sequence[Logged], hashes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What was predicted, shape (NUM_COLUMNS, N + T), and which samples turn a label, shape (T,).

        A turned label is two columns: its negative with a negative weight, in the sample's place, and behind all
        samples a positive.
        """
        imp_ids = list(chain.from_iterable(one.imp_id for one in logged))
        turned = np.flatnonzero(np.concatenate([one.corrections_B for one in learned]))
        rows = rows_of(logged, room=len(turned))
        lost = np.flatnonzero(~np.isfinite(rows[PREDICTION, : len(imp_ids)]))
        if len(lost):
            # A model that has diverged must not take the learner's process with it; its weights are held back anyway.
            rows[RATE, lost] = rows[ONCE, lost] = 0.0
            self._bucket.unscored += len(lost)
        negative = rows[LABEL, : len(imp_ids)] == 0
        self._open.keep(list(compress(imp_ids, negative.tolist())), rows[:, np.flatnonzero(negative)].T)
        for behind, n in enumerate(turned.tolist(), len(imp_ids)):
            rows[:, n] = rows[:, behind] = self._turn(imp_ids[n], int(hashes[n]))
            rows[SIGN, behind] = rows[LABEL, behind] = 1.0
        return rows, turned

    def _note(self, rows: np.ndarray, age_ms: float) -> None:
        """What a bucket says of its samples as a whole."""
        bucket = self._bucket
        bucket.age_ms += age_ms
        bucket.late_labels += self._late_labels
        self._late_labels = 0
        event_times = rows[TS][rows[ONCE] > 0]
        if len(event_times):
            bucket.first_ts = int(min(bucket.first_ts or event_times[0], event_times.min()))
            bucket.last_ts = int(max(bucket.last_ts, event_times.max()))

    def _turn(self, imp_id: str, user: int) -> np.ndarray:
        """The row of a negative whose label came late, marked as one to take back."""
        row = self._open.turn(imp_id)
        if row is None:
            self._late_labels += 1
            return np.zeros(NUM_COLUMNS)
        self._sums.turn(user, float(row[PREDICTION]), float(row[RANK]))
        return row

    def _watch(self, new_CM: np.ndarray) -> None:
        """Hand on to the detectors whatever has become a block of samples."""
        if not self._watches:
            return
        sums_WM = self._block_WM
        sums_WM[0] += new_CM[: self.scheme.num_users, _WATCHED].sum(0)
        sums_WM[1:] += new_CM[:, _WATCHED]
        for n in np.flatnonzero(sums_WM[:, 0] >= self._settings.drift_block).tolist():
            for alarm in self._watches[n].update(*sums_WM[n].tolist()):
                self._bucket.alarms.append(alarm)
                self.alarms.append(alarm)
            sums_WM[n] = 0.0

    def _close(self, now_ms: int) -> None:
        self._features.fold(self._bucket)
        self._stretches.end(now_ms)

    def cut(self, now_ms: int) -> list[Bucket]:
        """Buckets since the last call, the open one with them."""
        self.fold()
        self._close(now_ms)
        return self._stretches.take()
