"""Figures of predictions on matured labels, each with replicates over resampled users.

Every user is drawn with replacement, with all that is theirs; two models are compared on the same draws, so that what
is hard for both cancels (paired bootstrap). Column 0 of the replicates is the figure itself: every user once.

Legend: T samples of a recording, N impressions, U users, R replicates.
"""

from functools import cached_property

import msgspec
import numpy as np

from learner.metrics import sampling_weights
from learner.samples.kind import SampleKind
from simulators.experiments.statistics.replicates import drawn_users, replicated_auc, user_sums
from simulators.experiments.stream.recorded import Columns

_LEAST = 1e-7


class Said(msgspec.Struct, frozen=True):
    """What a model said of each of T samples before learning from it."""

    predictions_T: np.ndarray
    ranks_T: np.ndarray


class Scores(msgspec.Struct, frozen=True):
    """What a model said of each of N impressions."""

    predictions_N: np.ndarray
    """Probability, just before its label was learned; float32."""
    ranks_N: np.ndarray
    """Rank score then, float32."""
    served_N: np.ndarray
    """Probability when the impression passed, which is what a user got, float32; NaN where nothing was said."""


class Truth:
    """Impressions with their final labels, and where in a recording each was predicted.

    Args:
        columns: of the recording.
        num_replicates: R, besides the figure itself.
        seed: of the draws.

    Figures take the scores of all N impressions and, if wanted, which of them count; they have shape (1 + R,).
    """

    def __init__(self, columns: Columns, num_replicates: int = 200, seed: int = 0) -> None:
        base = np.flatnonzero(columns.kinds_T <= SampleKind.POSITIVE)
        impressions_N = columns.impressions_T[base]
        turned = np.isin(impressions_N, columns.impressions_T[columns.kinds_T == SampleKind.CORRECTION])
        self._base_N = base
        self.labels_N = (columns.labels_T[base] > 0) | turned
        self.weights_N = sampling_weights(self.labels_N, columns.rates_T[base]).astype(np.float64)
        self.user_keys_U, self.users_N = np.unique(columns.users_T[base], return_inverse=True)
        self.user_counts_N, self.item_counts_N = columns.user_counts_T[base], columns.item_counts_T[base]
        self.entries_N = columns.entries_T[base]
        self._shown_N = _places(columns, impressions_N)
        self._counts_UR = drawn_users(len(self.user_keys_U), num_replicates, seed)

    def __len__(self) -> int:
        return len(self._base_N)

    def of_impressions(self, values_T: np.ndarray) -> np.ndarray:
        """What is said of each impression, of what is said of samples."""
        values_N: np.ndarray = values_T[self._base_N]
        return values_N

    def scores(self, said: Said) -> Scores:
        """What was said of the impressions."""
        served_N = np.full(len(self), np.nan, np.float32)
        was_shown_N = self._shown_N >= 0
        served_N[was_shown_N] = said.predictions_T[self._shown_N[was_shown_N]]
        return Scores(
            said.predictions_T[self._base_N].astype(np.float32),
            said.ranks_T[self._base_N].astype(np.float32),
            served_N,
        )

    def auc(self, scores_N: np.ndarray, chosen_N: np.ndarray | None = None) -> np.ndarray:
        """AUC; ties count one half, and what has no score is left out."""
        chosen = np.flatnonzero(np.isfinite(scores_N) if chosen_N is None else np.isfinite(scores_N) & chosen_N)
        order = chosen[np.argsort(scores_N[chosen], kind="stable")]
        # In order beforehand, so that memory is read one after the other.
        sorted_of = [
            np.ascontiguousarray(each[order]) for each in (scores_N, self.labels_N, self.weights_N, self.users_N)
        ]
        scores, labels, weights, users = sorted_of
        whole = np.arange(len(order))
        return replicated_auc(scores.astype(np.float64), whole, labels, weights, users, self._counts_UR)

    def user_auc(self, scores_N: np.ndarray, chosen_N: np.ndarray | None = None) -> np.ndarray:
        """AUC within each user, weighted by the user's impressions; users with labels of one kind only have none."""
        order_N = np.lexsort((scores_N, self.users_N))
        order_N = order_N if chosen_N is None else order_N[chosen_N[order_N]]
        size, scores_N = len(self.user_keys_U), scores_N.astype(np.float64)
        above_U, below_U = user_sums(scores_N, order_N, self.labels_N, self.weights_N, self.users_N, size)
        return self._over_users(above_U, below_U)

    def log_loss(self, predictions_N: np.ndarray, chosen_N: np.ndarray | None = None) -> np.ndarray:
        """Mean binary cross-entropy, nats."""
        p_N = np.clip(predictions_N.astype(np.float64), _LEAST, 1 - _LEAST)
        loss_N = -np.where(self.labels_N, np.log(p_N), np.log1p(-p_N))
        weights_N = self.weights_N if chosen_N is None else self.weights_N * chosen_N
        return self._ratio(loss_N * weights_N, weights_N)

    def calibration(self, predictions_N: np.ndarray) -> np.ndarray:
        """Sum of predictions over sum of labels."""
        return self._ratio(predictions_N * self.weights_N, self.labels_N.astype(np.float64))

    def _ratio(self, above_N: np.ndarray, below_N: np.ndarray) -> np.ndarray:
        size = len(self.user_keys_U)
        return self._over_users(*(np.bincount(self.users_N, each, size) for each in (above_N, below_N)))

    def _over_users(self, above_U: np.ndarray, below_U: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            found_R: np.ndarray = (above_U @ self._wide_counts) / (below_U @ self._wide_counts)
        return found_R

    @cached_property
    def _wide_counts(self) -> np.ndarray:
        # To widen them takes longer than to multiply with them.
        return self._counts_UR.astype(np.float64)


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
