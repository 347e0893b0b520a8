"""The meter of what scorers served: outcomes -> buckets, by cohort as any others, and by arm, canary and version."""

from collections.abc import Sequence

import msgspec
import numpy as np

from stream.monitor.figures.bootstrap import hashes_of
from stream.monitor.figures.bucket import ADAPTER, COUNT, WEIGHT, Bucket, Stretches
from stream.monitor.figures.cohorts import CohortScheme
from stream.monitor.figures.rows import (
    FIRST_TS,
    ITEM_N,
    LABEL,
    NUM_COLUMNS,
    ONCE,
    PREDICTION,
    RANK,
    RATE,
    REFERENCE,
    SIGN,
    TS,
    USER_N,
)
from stream.monitor.figures.sums import Sums
from stream.monitor.served.sums import ABSOLUTE_SKEW, add_outcomes
from stream.sections import MonitorSettings
from stream.served import ServedOutcomes

_SUMMED_AT_ONCE = 2000
"""Outcomes that are summed up together."""
_ONE_IN = 4
"""One user of so many is in the UAUC and the bootstrap, which are dear."""


class ServedMeter:
    """Collects outcomes and folds them into buckets, in which the learner's own prediction is the reference.

    Args:
        settings: the monitor section.
        num_fields: F.
        one_in: one user of so many is in the UAUC and the bootstrap.
    """

    def __init__(self, settings: MonitorSettings, num_fields: int, *, one_in: int = _ONE_IN) -> None:
        self._settings = settings
        self.scheme = CohortScheme(settings)
        self._num_fields = num_fields
        self._sums = Sums(self.scheme, one_in)
        self._stretches = Stretches(self._new_bucket, settings.bucket_s * 1000)
        self._waiting: list[ServedOutcomes] = []
        self._block_X = np.zeros(ABSOLUTE_SKEW + 1)
        """Sums since it was last looked at how large the skew is."""
        self.alarms: list[str] = []

    def _new_bucket(self) -> Bucket:
        nth, num_users = self._settings.nth_impressions, self.scheme.num_users
        return Bucket(len(self.scheme), self._num_fields, nth, num_users, 0)

    def observe(self, outcomes: ServedOutcomes, now_ms: int) -> None:
        """Take N outcomes in; arguments as of `OutcomeListener`."""
        self._stretches.begin(now_ms)
        self._waiting.append(outcomes)
        if self._stretches.is_due(now_ms):
            self._fold()
            self._stretches.end(now_ms)
        elif sum(map(len, self._waiting)) >= _SUMMED_AT_ONCE:
            self._fold()

    def cut(self, now_ms: int) -> list[Bucket]:
        """Buckets since the last call, the open one with them."""
        self._fold()
        self._stretches.end(now_ms)
        return self._stretches.take()

    def _fold(self) -> None:
        if not self._waiting:
            return
        outcomes, self._waiting = _joined(self._waiting), []
        bucket, rows = self._stretches.open, _rows_of(outcomes)
        hashes = hashes_of(outcomes.users_N)
        for n in np.flatnonzero(outcomes.sign_N < 0).tolist():
            self._sums.turn(int(hashes[n]), float(rows[PREDICTION, n]), float(rows[RANK, n]))
        cohorts_3N = self.scheme.assign(rows[USER_N], rows[ITEM_N], rows[TS], rows[FIRST_TS])
        columns = np.zeros((ADAPTER, len(outcomes)), np.float32)
        self._sums.add(bucket, rows, columns, hashes, cohorts_3N)
        bucket.version = max(bucket.version, int(outcomes.version_N.max()))
        first = outcomes.ts_N[~outcomes.late_N]
        if len(first):
            bucket.first_ts = int(min(bucket.first_ts or first[0], first.min()))
            bucket.last_ts = int(max(bucket.last_ts, first.max()))
        self._watch(add_outcomes(bucket.groups, outcomes, cohorts_3N))

    def _watch(self, new_X: np.ndarray) -> None:
        """Tell of a skew that is too large."""
        block = self._block_X
        block += new_X[: len(block)]
        if block[COUNT] < self._settings.drift_block:
            return
        skew, limit = block[ABSOLUTE_SKEW] / max(block[WEIGHT], 1.0), self._settings.skew_limit
        if skew > limit:
            alarm = (
                f"served: off from the learner's own prediction by {skew:.3f} on average over {block[COUNT]:,.0f} "
                f"impressions, more than monitor.skew_limit ({limit:g})"
            )
            self._stretches.open.alarms.append(alarm)
            self.alarms.append(alarm)
        block[:] = 0.0


def _joined(parts: Sequence[ServedOutcomes]) -> ServedOutcomes:
    return ServedOutcomes(*map(np.concatenate, zip(*map(msgspec.structs.astuple, parts), strict=True)))


def _rows_of(outcomes: ServedOutcomes) -> np.ndarray:
    """As a meter of the learner's has them; what was served has no rank score but its probability."""
    rows = np.empty((NUM_COLUMNS, len(outcomes)))
    # In single precision, as they are kept for late labels elsewhere: a turned label finds its own by its value.
    rows[PREDICTION] = rows[RANK] = outcomes.probability_N.astype(np.float32)
    rows[REFERENCE], rows[LABEL], rows[RATE] = outcomes.progressive_N, outcomes.label_N, outcomes.rate_N
    rows[SIGN], rows[ONCE] = outcomes.sign_N, ~outcomes.late_N
    rows[USER_N], rows[ITEM_N] = outcomes.user_impressions_N, outcomes.item_impressions_N
    rows[TS], rows[FIRST_TS] = outcomes.ts_N, outcomes.first_ts_N
    return rows
