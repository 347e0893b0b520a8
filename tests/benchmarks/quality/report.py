"""Results of variants: differences to the whole model, JSON, and a table in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulators.experiments.stream.figures import Said, Truth

_COLD = 10
_TITLES = {
    "auc": "AUC",
    "rank_uauc": "rank UAUC",
    "auc_users_below_10": "users < 10",
    "auc_items_below_10": "items < 10",
    "auc_first_impression": "first impression",
    "log_loss": "log-loss",
    "calibration": "calibration",
    "served_auc": "served AUC",
}
NAMES = tuple(_TITLES)
_INTERVAL = (2.5, 97.5)


def figures_of(truth: Truth, said: Said) -> dict[str, np.ndarray]:
    """Name -> the figure and its replicates, shape (1 + R,)."""
    scores = truth.scores(said)
    return {
        "auc": truth.auc(scores.predictions_N),
        "rank_uauc": truth.user_auc(scores.ranks_N),
        "auc_users_below_10": truth.auc(scores.predictions_N, truth.user_counts_N < _COLD),
        "auc_items_below_10": truth.auc(scores.predictions_N, truth.item_counts_N < _COLD),
        "auc_first_impression": truth.auc(scores.predictions_N, truth.user_counts_N == 0),
        "log_loss": truth.log_loss(scores.predictions_N),
        "calibration": truth.calibration(scores.predictions_N),
        "served_auc": truth.auc(scores.served_N),
    }


def result(
    name: str,
    by_seed: Sequence[Mapping[str, np.ndarray]],
    whole: Mapping[str, np.ndarray] | None,
    rates: Sequence[float],
) -> dict[str, Any]:
    """One variant's figures.

    Args:
        name: of the variant.
        by_seed: figures with their replicates, as of `figures_of`, for each seed.
        whole: the same of the whole model, the mean over its seeds; None for itself.
        rates: samples/s for each seed.
    """
    means = mean_of(by_seed)
    found: dict[str, Any] = {"name": name, "samples_per_s": round(float(np.median(rates)))}
    for figure in NAMES:
        values_R = means[figure]
        found[figure] = _plain(values_R[0])
        if len(by_seed) > 1:
            found[f"{figure}_by_seed"] = [_plain(of[figure][0]) for of in by_seed]
        if whole is not None:
            differences_R = values_R - whole[figure]
            low, high = (
                np.nanpercentile(differences_R[1:], _INTERVAL)
                if np.isfinite(differences_R[1:]).any()
                else (
                    np.nan,
                    np.nan,
                )
            )
            found[f"{figure}_to_whole"] = {
                "difference": _plain(differences_R[0]),
                "low": _plain(low),
                "high": _plain(high),
            }
    return found


def mean_of(by_seed: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Figures and replicates, the mean over seeds."""
    return {name: np.mean([of[name] for of in by_seed], axis=0) for name in NAMES}


def _plain(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """All figures; in brackets the difference to the whole model and half its 95 % interval."""
    lines = ["| | " + " | ".join((*_TITLES.values(), "samples/s")) + " |", "|---" * (len(NAMES) + 2) + "|"]
    for found in results:
        cells = [_cell(found.get(name), found.get(f"{name}_to_whole")) for name in NAMES]
        lines.append(f"| {found['name']} | " + " | ".join((*cells, f"{found['samples_per_s']:,}")) + " |")
    return "\n".join(lines)


def _cell(value: float | None, against: Mapping[str, float | None] | None) -> str:
    if value is None:
        return "-"
    if against is None or against["difference"] is None or against["low"] is None or against["high"] is None:
        return f"{value:.4f}"
    half = (against["high"] - against["low"]) / 2
    return f"{value:.4f} ({against['difference']:+.4f} ± {half:.4f})"
