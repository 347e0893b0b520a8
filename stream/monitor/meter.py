"""The meter in the learner: predictions made before learning, summed up by cohort; no second pass of the model."""

from collections import OrderedDict
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import polars as pl

from learner.learner import Learned
from learner.metrics import sampling_weights, uauc
from learner.sample import Sample, SampleKind
from stream.monitor.bucket import (
    ADAPTER,
    BASELINE_LOSS,
    COUNT,
    ITEM_NORM,
    LOSS,
    LOSS_SQUARED,
    NTH_COLUMNS,
    NUM_BINS,
    POSITIVE,
    PREDICTED,
    UNSEEN_ITEM,
    UNSEEN_USER,
    USER_NORM,
    WEIGHT,
    Bucket,
)
from stream.monitor.cohorts import Cohort, CohortScheme
from stream.monitor.config import MonitorSettings
from stream.monitor.drift import DriftWatch
from stream.prediction_log import item_mean_baseline

_DAY_MS = 86_400_000
_EPS = 1e-6
_FOLD_AT = 2000
_UAUC_SHARE = 8
"""One user of so many is in the UAUC, which is the dearest of the metrics."""
_MAX_OPEN = 200_000
"""Negatives whose prediction is remembered, in case a late label turns them."""


_ROW_BYTES = 40
"""Ten float32."""
# Columns of what is collected per sample until it is folded.
(_USER_N, _ITEM_N, _TS, _FIRST_TS, _P, _BASE, _LABEL, _RATE, _SIGN, _ONCE) = range(10)


class Meter:
    """Collects samples and folds them into buckets.

    Args:
        settings: the monitor section.
        num_fields: F.
    """

    def __init__(self, settings: MonitorSettings, num_fields: int) -> None:
        self._settings = settings
        self._num_fields = num_fields
        self.scheme = CohortScheme(settings)
        watched = [Cohort("all", "samples"), *self.scheme.cohorts]
        self._watches = [DriftWatch(cohort, settings) for cohort in watched]
        self._open: OrderedDict[str, bytes] = OrderedDict()
        self._rows: list[np.ndarray] = []
        self._extras: list[np.ndarray] = []
        self._users: list[str] = []
        self._num_rows = 0
        self._bucket = self._new_bucket(0)
        self._done: list[Bucket] = []
        self._late_labels = 0
        self.alarms: list[str] = []

    def remember(self, predictions: pl.DataFrame) -> None:
        """Know the negatives of a prediction log again, so that their late labels find them.

        Args:
            predictions: rows of the log, oldest first.
        """
        turned = predictions.filter(pl.col("kind") == int(SampleKind.CORRECTION))["imp_id"]
        negatives = predictions.filter(
            (pl.col("kind") == int(SampleKind.NEGATIVE)) & ~pl.col("imp_id").is_in(turned.implode())
        ).tail(_MAX_OPEN)
        rows = np.zeros((len(negatives), 10), np.float32)
        for at, name in enumerate(
            ("user_impressions", "item_impressions", "ts", "user_first_ts", "prediction", "baseline")
        ):
            rows[:, at] = negatives[name].to_numpy()
        rows[:, _RATE] = negatives["negative_rate"].to_numpy()
        rows[:, _SIGN] = rows[:, _ONCE] = 1.0
        for imp_id, row in zip(negatives["imp_id"], rows, strict=True):
            self._open[imp_id] = row.tobytes()

    def _new_bucket(self, now_ms: int) -> Bucket:
        bucket = Bucket(len(self.scheme), self._num_fields, self._settings.nth_impressions, self.scheme.num_users)
        bucket.start_ms = bucket.end_ms = now_ms
        return bucket

    def observe(self, samples: Sequence[Sample], learned: Learned, version: int, now_ms: int) -> None:
        """Take a micro-batch in.

        Args:
            samples: B of them.
            learned: what the learner predicted before learning from them.
            version: weights last published.
            now_ms: wall clock.
        """
        if not self._bucket.start_ms:
            self._bucket.start_ms = now_ms
        rows, extras = self._collect(samples, learned)
        self._rows.append(rows)
        self._extras.append(extras)
        self._users += [s.core.user_id for s in samples]
        self._num_rows += len(samples)
        self._bucket.version = version
        ends = now_ms - self._bucket.start_ms >= self._settings.bucket_s * 1000
        if self._num_rows >= _FOLD_AT or ends:
            self.fold()
        if ends:
            self._close(now_ms)

    def _collect(self, samples: Sequence[Sample], learned: Learned) -> tuple[np.ndarray, np.ndarray]:
        counts_BC, half = learned.counts_BC, learned.counts_BC.shape[1] // 2
        rows = np.empty((10, len(samples)))
        rows[_USER_N], rows[_ITEM_N] = counts_BC[:, 0], counts_BC[:, half]
        rows[_TS] = [s.core.ts for s in samples]
        rows[_FIRST_TS] = [s.state.user_first_ts for s in samples]
        rows[_P], rows[_BASE] = learned.predictions_B, item_mean_baseline(counts_BC[:, half:])
        rows[_LABEL] = learned.labels_B
        rows[_RATE] = [s.state.negative_rate for s in samples]
        rows[_SIGN] = rows[_ONCE] = 1.0
        weight_BF = learned.weight_BF
        extras = np.concatenate(
            [
                learned.unseen_B2,
                learned.norms_B2,
                np.zeros((len(samples), self._num_fields)) if weight_BF is None else weight_BF,
            ],
            axis=1,
        ).T
        packed = rows.T.astype(np.float32).tobytes()
        for b, sample in enumerate(samples):
            if sample.kind is SampleKind.NEGATIVE:
                self._open[sample.core.imp_id] = packed[b * _ROW_BYTES : (b + 1) * _ROW_BYTES]
            elif sample.kind is SampleKind.CORRECTION:
                rows[:, b] = self._turn(sample.core.imp_id)
                extras[:, b] = 0.0
        while len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
        return rows, extras

    def _turn(self, imp_id: str) -> np.ndarray:
        """The row of a negative whose label came late, to be counted as a positive; `fold` takes the negative back."""
        known = self._open.pop(imp_id, None)
        if known is None:
            self._late_labels += 1
            return np.zeros(10)
        row = np.frombuffer(known, np.float32).astype(np.float64)
        row[_SIGN] = -1.0
        row[_ONCE] = 0.0
        return row

    def fold(self) -> None:
        """Sum up what was collected."""
        if not self._num_rows:
            return
        rows, extras = np.concatenate(self._rows, axis=1), np.concatenate(self._extras, axis=1)
        users = np.array([crc32(u.encode()) for u in self._users])
        self._rows, self._extras, self._users, self._num_rows = [], [], [], 0
        bucket = self._bucket
        bucket.late_labels += self._late_labels
        self._late_labels = 0
        event_times = rows[_TS][rows[_ONCE] > 0]
        if len(event_times):
            bucket.first_ts = int(min(bucket.first_ts or event_times[0], event_times.min()))
            bucket.last_ts = int(max(bucket.last_ts, event_times.max()))
        self._fold_uauc(rows, users)
        # A turned label is two entries: its negative with a negative weight, and a positive.
        turned = np.flatnonzero(rows[_SIGN] < 0)
        positive = rows[:, turned].copy()
        positive[_SIGN], positive[_LABEL] = 1.0, 1.0
        rows = np.concatenate([rows, positive], axis=1)
        extras = np.concatenate([extras, np.zeros((len(extras), len(turned)))], axis=1)
        used = rows[_RATE] > 0
        self._fold_sums(rows[:, used], extras[:, used])

    def _fold_uauc(self, rows: np.ndarray, users: np.ndarray) -> None:
        chosen = (users % _UAUC_SHARE == 0) & (rows[_ONCE] > 0)
        labels = rows[_LABEL][chosen]
        if 0 < labels.sum() < len(labels):
            value = uauc(labels, rows[_P][chosen], users[chosen])
            if not np.isnan(value):
                self._bucket.uauc[0] += value * len(labels)
                self._bucket.uauc[1] += len(labels)

    def _fold_sums(self, rows: np.ndarray, extras: np.ndarray) -> None:
        bucket = self._bucket
        label, once = rows[_LABEL], rows[_ONCE]
        weight = rows[_SIGN] * sampling_weights(label, rows[_RATE])
        losses = []
        for column in (_P, _BASE):
            p = np.clip(rows[column], _EPS, 1 - _EPS)
            losses.append(-np.where(label > 0, np.log(p), np.log1p(-p)))
        columns = np.empty((ADAPTER + self._num_fields, rows.shape[1]))
        columns[COUNT], columns[WEIGHT], columns[POSITIVE] = once, weight, weight * label
        columns[PREDICTED], columns[LOSS] = weight * rows[_P], weight * losses[0]
        columns[LOSS_SQUARED], columns[BASELINE_LOSS] = weight * losses[0] ** 2, weight * losses[1]
        for at, column in enumerate((UNSEEN_USER, UNSEEN_ITEM, USER_NORM, ITEM_NORM)):
            columns[column] = extras[at]
        columns[ADAPTER:] = extras[4:]
        cohorts = self.scheme.assign(rows[_USER_N], rows[_ITEM_N], rows[_TS], rows[_FIRST_TS])
        num_cohorts, before = len(self.scheme), bucket.sums_CM.copy()
        bins = [np.minimum((rows[c] * NUM_BINS).astype(np.int64), NUM_BINS - 1) for c in (_P, _BASE)]
        for of_dimension in cohorts:
            one_hot = np.zeros((num_cohorts, rows.shape[1]))
            one_hot[of_dimension, np.arange(rows.shape[1])] = 1.0
            bucket.sums_CM += one_hot @ columns.T
            for which in range(2):
                index = (of_dimension * 2 + (label > 0)) * NUM_BINS + bins[which]
                counted = np.bincount(index, weight, num_cohorts * 2 * NUM_BINS)
                bucket.histogram_2C2K[which] += counted.reshape(num_cohorts, 2, NUM_BINS)
        self._fold_passage(rows, columns, cohorts[0])
        new_CM = (bucket.sums_CM - before)[:, [WEIGHT, POSITIVE, PREDICTED, LOSS, BASELINE_LOSS]]
        overall_M = new_CM[: self.scheme.num_users].sum(0)
        for watch, sums_M in zip(self._watches, [overall_M, *new_CM], strict=True):
            for alarm in watch.update(*sums_M.tolist()):
                bucket.alarms.append(alarm)
                self.alarms.append(alarm)

    def _fold_passage(self, rows: np.ndarray, columns: np.ndarray, user_cohorts: np.ndarray) -> None:
        """By n-th impression, and by arrival day and cohort: how users pass from cold to warm."""
        bucket = self._bucket
        nth = rows[_USER_N].astype(np.int64)
        early = nth < len(bucket.nth_NM)
        days = np.where(rows[_FIRST_TS] > 0, rows[_FIRST_TS], rows[_TS]).astype(np.int64) // _DAY_MS
        for column in range(NTH_COLUMNS):
            bucket.nth_NM[:, column] += np.bincount(nth[early], columns[column][early], len(bucket.nth_NM))
        for day in np.unique(days):
            of_day = days == day
            for column in range(NTH_COLUMNS):
                bucket.arrival(int(day))[:, column] += np.bincount(
                    user_cohorts[of_day], columns[column][of_day], self.scheme.num_users
                )

    def _close(self, now_ms: int) -> None:
        self._bucket.end_ms = now_ms
        if self._bucket.sums_CM.any():
            self._done.append(self._bucket)
        self._bucket = self._new_bucket(now_ms)

    def cut(self, now_ms: int) -> list[Bucket]:
        """Buckets since the last call, the open one with them."""
        self.fold()
        self._close(now_ms)
        done, self._done = self._done, []
        return done
