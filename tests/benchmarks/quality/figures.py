"""Figures of predictions on matured labels, each with replicates over resampled users.

Every user is drawn with replacement, with all that is theirs; two models are compared on the same draws, so that what
is hard for both cancels (paired bootstrap). Column 0 of the replicates is the figure itself: every user once.

Legend: T samples of a recording, N impressions, U users, R replicates.
"""

import msgspec
import numpy as np
from quality.recorded import Columns

from learner.metrics import sampling_weights
from learner.samples.kind import SampleKind
from simulators.experiments.statistics.replicates import drawn_users, replicated_auc, user_sums

NAMES = (
    "auc",
    "rank_uauc",
    "auc_users_below_10",
    "auc_items_below_10",
    "auc_first_impression",
    "log_loss",
    "calibration",
    "served_auc",
)
_COLD = 10
_LEAST = 1e-7


class Said(msgspec.Struct, frozen=True):
    """What a model said of each of T samples before learning from it."""

    predictions_T: np.ndarray
    ranks_T: np.ndarray


class Truth:
    """Impressions with their final labels, and where in a recording each was predicted.

    Args:
        columns: of the recording.
        num_replicates: R, besides the figure itself.
        seed: of the draws.
    """

    def __init__(self, columns: Columns, num_replicates: int = 200, seed: int = 0) -> None:
        base = np.flatnonzero(columns.kinds_T <= SampleKind.POSITIVE)
        impressions_N = columns.impressions_T[base]
        turned = np.isin(impressions_N, columns.impressions_T[columns.kinds_T == SampleKind.CORRECTION])
        self._base_N = base
        self.labels_N = (columns.labels_T[base] > 0) | turned
        self.weights_N = sampling_weights(self.labels_N, columns.rates_T[base]).astype(np.float64)
        self.user_keys_U, self.users_N = np.unique(columns.users_T[base], return_inverse=True)
        seen = columns.user_counts_T[base]
        self._cohorts = {
            "auc_users_below_10": seen < _COLD,
            "auc_items_below_10": columns.item_counts_T[base] < _COLD,
            "auc_first_impression": seen == 0,
        }
        self._shown_N = _places(columns, impressions_N)
        self._counts_UR = drawn_users(len(self.user_keys_U), num_replicates, seed)

    def __len__(self) -> int:
        return len(self._base_N)

    def figures(self, said: Said) -> dict[str, np.ndarray]:
        """Name -> the figure and its replicates, shape (1 + R,)."""
        p_N = said.predictions_T[self._base_N].astype(np.float64)
        rank_N = said.ranks_T[self._base_N]
        order_N = np.argsort(p_N, kind="stable")
        found = {"auc": self._auc(p_N, order_N), "rank_uauc": self._user_auc(rank_N)}
        for name, chosen_N in self._cohorts.items():
            found[name] = self._auc(p_N, order_N[chosen_N[order_N]])
        clipped_N = np.clip(p_N, _LEAST, 1 - _LEAST)
        loss_N = -np.where(self.labels_N, np.log(clipped_N), np.log1p(-clipped_N))
        found["log_loss"] = self._ratio(loss_N * self.weights_N, self.weights_N)
        found["calibration"] = self._ratio(p_N * self.weights_N, self.labels_N.astype(np.float64))
        was_shown = np.flatnonzero(self._shown_N >= 0)
        served_N = np.full(len(p_N), np.nan)
        served_N[was_shown] = said.predictions_T[self._shown_N[was_shown]]
        found["served_auc"] = self._auc(served_N, was_shown[np.argsort(served_N[was_shown], kind="stable")])
        return found

    def _auc(self, scores_N: np.ndarray, order_N: np.ndarray) -> np.ndarray:
        return replicated_auc(scores_N, order_N, self.labels_N, self.weights_N, self.users_N, self._counts_UR)

    def _user_auc(self, scores_N: np.ndarray) -> np.ndarray:
        order_N = np.lexsort((scores_N, self.users_N))
        pairs_U, mass_U = user_sums(
            scores_N.astype(np.float64), order_N, self.labels_N, self.weights_N, self.users_N, len(self.user_keys_U)
        )
        return self._over_users(pairs_U, mass_U)

    def _ratio(self, above_N: np.ndarray, below_N: np.ndarray) -> np.ndarray:
        size = len(self.user_keys_U)
        return self._over_users(*(np.bincount(self.users_N, each, size) for each in (above_N, below_N)))

    def _over_users(self, above_U: np.ndarray, below_U: np.ndarray) -> np.ndarray:
        counts_UR = self._counts_UR.astype(np.float64)
        found_R: np.ndarray = (above_U @ counts_UR) / (below_U @ counts_UR)
        return found_R


def _places(columns: Columns, impressions_N: np.ndarray) -> np.ndarray:
    """Where each impression was predicted when it passed; -1 where it was not."""
    shown = np.flatnonzero(columns.kinds_T == SampleKind.SHOWN)
    if not len(shown):
        return np.full(len(impressions_N), -1)
    keys = columns.impressions_T[shown]
    by_key = np.argsort(keys, kind="stable")
    at_N = np.minimum(np.searchsorted(keys, impressions_N, sorter=by_key), len(keys) - 1)
    places_N: np.ndarray = np.where(keys[by_key[at_N]] == impressions_N, shown[by_key[at_N]], -1)
    return places_N
