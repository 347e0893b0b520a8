"""AUC by windows of a stream, of a run with a drift beside the same run without one.

Both see the same impressions; what differs are labels from some impression on, and so what is learned. Windows are of
the same impressions in both.
"""

from typing import Any

import numpy as np
import polars as pl

from learner.metrics import auc, sampling_weights
from stream.predictions.judged import matured

_STEP = 1000
_LASTS = 5
"""Windows in a row that must be within the tolerance, so that a lucky one is not taken for the end."""


def by_impression(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row per impression in the order in which it was learned: id, label, prediction and weight.

    Args:
        predictions: the prediction log.
    """
    rows = matured(predictions)
    weights = sampling_weights(rows["label"].to_numpy(), rows["negative_rate"].to_numpy())
    return rows.select("imp_id", "label", "prediction").with_columns(weight=pl.Series(weights))


def first_changed(calm: pl.DataFrame, drifted: pl.DataFrame) -> int:
    """Number of the first impression whose label differs: where a drift begins, in samples.

    Raises:
        ValueError: none does.
    """
    both = calm.join(drifted, on="imp_id", suffix="_drifted", maintain_order="left")
    changed = np.flatnonzero((both["label"] != both["label_drifted"]).to_numpy())
    if not len(changed):
        raise ValueError("no label differs between the two runs: the drift begins behind the last impression")
    return int(changed[0])


def recovery(calm: pl.DataFrame, drifted: pl.DataFrame, begun: int, size: int, within: float) -> dict[str, Any]:
    """How many impressions after a drift AUC is back, and stays for some windows.

    A window counts once it lies behind the drift as a whole, so the least answer is its size.

    Args:
        calm: of the run without a drift, as of `by_impression`.
        drifted: of the run with it.
        begun: impressions before the drift.
        size: of a window, in impressions.
        within: of the calm run's AUC.

    Returns:
        `samples_until_recovered` (None if it is not within the log); `lowest` and `last`, the difference of the worst
        and of the last window; `auc_calm` and `auc_drifted` of the last one.
    """
    both = calm.join(drifted, on="imp_id", suffix="_drifted", maintain_order="left")
    columns = {name: both[name].to_numpy() for name in both.columns if name != "imp_id"}
    ends = range(begun + size, len(both) + 1, _STEP)

    def at(end: int, suffix: str) -> float:
        window = slice(end - size, end)
        return auc(*(columns[name + suffix][window] for name in ("label", "prediction", "weight")))

    pairs = [(at(end, ""), at(end, "_drifted")) for end in ends]
    if not pairs:
        return {"samples_until_recovered": None, "lowest": None, "last": None, "auc_calm": None, "auc_drifted": None}
    differences = np.array([drifted - calm for calm, drifted in pairs])
    is_back = differences >= -within
    lasting = [n for n in range(len(is_back) - _LASTS + 1) if is_back[n : n + _LASTS].all()]
    return {
        "samples_until_recovered": ends[lasting[0]] - begun if lasting else None,
        "lowest": round(float(differences.min()), 4),
        "last": round(float(differences[-1]), 4),
        "auc_calm": round(pairs[-1][0], 4),
        "auc_drifted": round(pairs[-1][1], 4),
    }
