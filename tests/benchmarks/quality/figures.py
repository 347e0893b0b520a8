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
from learner.tables.compiled import compiled

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
        self._counts_UR = _draws(len(self.user_keys_U), num_replicates, seed)

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
        return _replicated_auc(scores_N, order_N, self.labels_N, self.weights_N, self.users_N, self._counts_UR)

    def _user_auc(self, scores_N: np.ndarray) -> np.ndarray:
        order_N = np.lexsort((scores_N, self.users_N))
        pairs_U, mass_U = _user_sums(
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


def _draws(num_users: int, num_replicates: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts_UR = np.ones((num_users, 1 + num_replicates), np.float32)
    for r in range(1, 1 + num_replicates):
        counts_UR[:, r] = np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
    return counts_UR


@compiled
def _replicated_auc(
    scores_N: np.ndarray,
    order_N: np.ndarray,
    labels_N: np.ndarray,
    weights_N: np.ndarray,
    users_N: np.ndarray,
    counts_UR: np.ndarray,
) -> np.ndarray:
    """AUC of the samples in `order_N`, by rising score, in each replicate; ties count one half."""
    num_replicates = counts_UR.shape[1]
    pairs_R, below_R, above_R = np.zeros(num_replicates), np.zeros(num_replicates), np.zeros(num_replicates)
    tied_2R = np.zeros((2, num_replicates))
    begin = 0
    while begin < len(order_N):
        end, score = begin, scores_N[order_N[begin]]
        tied_2R[:] = 0.0
        while end < len(order_N) and scores_N[order_N[end]] == score:
            n = order_N[end]
            label, user, weight = np.int64(labels_N[n]), users_N[n], weights_N[n]
            for r in range(num_replicates):
                tied_2R[label, r] += weight * counts_UR[user, r]
            end += 1
        for r in range(num_replicates):
            pairs_R[r] += tied_2R[1, r] * (below_R[r] + 0.5 * tied_2R[0, r])
            below_R[r] += tied_2R[0, r]
            above_R[r] += tied_2R[1, r]
        # A score that is no number equals nothing, not even itself.
        begin = max(end, begin + 1)
    return pairs_R / (below_R * above_R)


@compiled
def _user_sums(
    scores_N: np.ndarray,
    order_N: np.ndarray,
    labels_N: np.ndarray,
    weights_N: np.ndarray,
    users_N: np.ndarray,
    num_users: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Per user, AUC times mass, and mass; both 0 where a user has labels of one kind only.

    Args:
        scores_N, labels_N, weights_N, users_N: of the samples.
        order_N: by user, then by rising score.
        num_users: U.
    """
    auc_U, mass_U = np.zeros(num_users), np.zeros(num_users)
    begin = 0
    while begin < len(order_N):
        user = users_N[order_N[begin]]
        pairs = below = above = 0.0
        while begin < len(order_N) and users_N[order_N[begin]] == user:
            score, negatives, positives = scores_N[order_N[begin]], 0.0, 0.0
            end = begin
            while (
                end < len(order_N)
                and users_N[order_N[end]] == user
                and (end == begin or scores_N[order_N[end]] == score)
            ):
                n = order_N[end]
                if labels_N[n]:
                    positives += weights_N[n]
                else:
                    negatives += weights_N[n]
                end += 1
            pairs += positives * (below + 0.5 * negatives)
            below, above, begin = below + negatives, above + positives, end
        if below > 0 and above > 0:
            mass_U[user] = below + above
            auc_U[user] = pairs / (below * above) * mass_U[user]
    return auc_U, mass_U
