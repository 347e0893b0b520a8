"""Drift of a cohort's quality: Page-Hinkley (River) on its calibration and its NE, one value per block of samples.

NE alone moves with who happens to come: on MovieLens by .05 from one block of 4,000 samples to the next. So the
detector is given NE less the popularity baseline's on the same samples, which takes most of that out. It tells of a
change, either way: where labels change, the baseline may suffer more than a model that goes on learning.
"""

import math
from typing import TYPE_CHECKING

from stream.monitor.figures.cohorts import Cohort
from stream.monitor.figures.intervals import entropy
from stream.sections import MonitorSettings

if TYPE_CHECKING:
    from river.drift import PageHinkley

_MIN_BLOCKS = 8
_LEAST_SHARE = 0.02
"""Blocks of nearly one label say nothing about NE."""


class DriftWatch:
    """Watches one cohort.

    Args:
        cohort: which.
        settings: the monitor section.
    """

    def __init__(self, cohort: Cohort, settings: MonitorSettings) -> None:
        self._cohort = cohort
        self._settings = settings
        self._detectors = {"NE against popularity": self._new(), "calibration": self._new()}

    def _new(self) -> "PageHinkley":
        # It brings SciPy's statistics along, half of the time that a process which only shows figures takes to start.
        from river.drift import PageHinkley

        settings = self._settings
        return PageHinkley(
            min_instances=_MIN_BLOCKS, delta=settings.drift_tolerance, threshold=settings.drift_threshold, mode="both"
        )

    def update(self, weight: float, positives: float, predicted: float, loss: float, baseline_loss: float) -> list[str]:
        """Take a block of samples in; returns what has drifted, with the figure of this block.

        Args:
            weight: how many impressions the block stands for.
            positives: of these, how many with a positive label.
            predicted: sum of the predictions.
            loss: sum of the log-loss.
            baseline_loss: sum of the popularity baseline's.
        """
        share = positives / weight
        if not _LEAST_SHARE < share < 1 - _LEAST_SHARE:
            return []
        excess, log_calibration = (loss - baseline_loss) / weight / entropy(share), math.log(predicted / positives)
        values = {
            "NE against popularity": (excess, f"{excess:+.3f}"),
            "calibration": (log_calibration, f"{math.exp(log_calibration):.3f}"),
        }
        alarms = []
        for name, (value, shown) in values.items():
            detector = self._detectors[name]
            detector.update(value)  # type: ignore[no-untyped-call]
            if detector.drift_detected:
                alarms.append(f"{self._cohort.dimension} {self._cohort.name}: {name} drifted, now {shown}")
        return alarms
