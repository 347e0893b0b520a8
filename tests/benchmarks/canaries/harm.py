"""How much harm poison does: poisoned weights beside those of a learner that was spared, and beside older ones."""

import numpy as np
from canaries.lineage import LABELS, Lineage

from learner.samples.columns import Samples
from stream.rollout.trial import log_losses


class Beside:
    """Log-losses of three on the same impressions of all users, scored as they pass.

    Args:
        poisoned: learns what is wrong.
        well: learns the same without that.
        before: stays as it was when the poisoning began.
    """

    def __init__(self, poisoned: Lineage, well: Lineage, before: Lineage) -> None:
        self._models = [lineage.newest for lineage in (poisoned, well, before)]
        self._said: dict[int, tuple[float, float, float]] = {}
        self._found: list[tuple[int, bool, float, float, float]] = []

    def serve(self, shown: Samples) -> None:
        """Score impressions as they pass."""
        said = zip(*(model.predict(shown).predictions_B.tolist() for model in self._models), strict=True)
        self._said |= dict(zip(shown.rows_B["imp_key"].tolist(), said, strict=True))

    def hear(self, samples: Samples) -> None:
        """Labels become known; one that is taken back counts against the one that replaces it."""
        rows = samples.rows_B
        for key, kind in zip(rows["imp_key"].tolist(), rows["kind"].tolist(), strict=True):
            if key in self._said:
                self._found += [(sign, label, *self._said[key]) for label, sign in LABELS.get(kind, ())]

    def worse(self) -> dict[str, float]:
        """Of the poisoned: mean log-loss above that of the spared and of the older ones, nats, over outcomes."""
        if not self._found:
            return {}
        signs, labels, *said = (np.array(column) for column in zip(*self._found, strict=True))
        poisoned_N, well_N, before_N = (log_losses(said_N, labels) * signs for said_N in said)
        num = signs.sum()
        return {
            "worse_than_well": float((poisoned_N - well_N).sum() / num),
            "worse_than_before": float((poisoned_N - before_N).sum() / num),
        }
