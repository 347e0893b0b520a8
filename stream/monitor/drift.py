"""Drift of a cohort's quality: Page-Hinkley on its NE and its calibration (River), one value per block of samples."""

import math

from river.drift import PageHinkley

from stream.monitor.cohorts import Cohort
from stream.monitor.config import MonitorSettings
from stream.monitor.figures import entropy

_MIN_BLOCKS = 8
_LEAST_SHARE = 0.02
"""Blocks of nearly one label say nothing about NE."""


class DriftWatch:
    """Watches one cohort: worse is an alarm, better is none; calibration may leave 1 either way.

    Args:
        cohort: which.
        settings: the monitor section.
    """

    def __init__(self, cohort: Cohort, settings: MonitorSettings) -> None:
        self._cohort = cohort
        self._block = settings.drift_block
        self._settings = settings
        self._sums = [0.0] * 4
        self._detectors = {"NE": self._new("up"), "calibration": self._new("both")}

    def _new(self, mode: str) -> PageHinkley:
        settings = self._settings
        return PageHinkley(
            min_instances=_MIN_BLOCKS, delta=settings.drift_tolerance, threshold=settings.drift_threshold, mode=mode
        )

    def update(self, weight: float, positives: float, predicted: float, loss: float) -> list[str]:
        """Take sums of a few samples in; returns what has drifted, with the figure, if anything."""
        self._sums = [a + b for a, b in zip(self._sums, (weight, positives, predicted, loss), strict=True)]
        weight, positives, predicted, loss = self._sums
        if weight < self._block:
            return []
        self._sums = [0.0] * 4
        share = positives / weight
        values = {}
        if _LEAST_SHARE < share < 1 - _LEAST_SHARE:
            values["NE"] = loss / weight / entropy(share)
        if positives > 0 and predicted > 0:
            values["calibration"] = math.log(predicted / positives)
        alarms = []
        for name, value in values.items():
            detector = self._detectors[name]
            detector.update(value)  # type: ignore[no-untyped-call]
            if detector.drift_detected:
                shown = value if name == "NE" else math.exp(value)
                alarms.append(f"{self._cohort.dimension} {self._cohort.name}: {name} drifted, now {shown:.3f}")
        return alarms
