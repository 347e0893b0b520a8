"""What became of each impression, task by task, and figures of what a model said of it.

A task's label is 1 if a positive came, with the base sample or in a later one. Of a task whose value is learned, as of
seconds watched, it is 1 if the value is above the median of all positives: its expected value ranks impressions, too.

Legend: T samples of a recording, N impressions, K tasks, U users, R replicates.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.recipe import TaskRecipe
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from simulators.experiments.statistics.bootstrap import UserBootstrap
from simulators.experiments.stream.recorded import Recording

_READ = 1 << 14


class Outcomes(msgspec.Struct, frozen=True):
    """Of every impression with a base sample, in the order of these."""

    base_N: np.ndarray
    """Place of its base sample among the T samples, where its tasks are predicted."""
    users_N: np.ndarray
    """Keys of the users."""
    labels_NK: np.ndarray
    """bool."""


class TaskTruth:
    """Labels of a recording by task, with a bootstrap over users that is the same for every model.

    Args:
        recording: the samples.
        tasks: K of them, in the order of their bits.
        num_replicates: R - 1.
    """

    def __init__(self, recording: Recording, tasks: Sequence[TaskRecipe], num_replicates: int) -> None:
        self.outcomes = outcomes_of(recording, tasks)
        keys_U, self._users_N = np.unique(self.outcomes.users_N, return_inverse=True)
        self._bootstrap = UserBootstrap(len(keys_U), num_replicates)

    def auc(self, scores_N: np.ndarray, task: int) -> np.ndarray:
        """AUC of a task's scores and its replicates, shape (R,)."""
        return self._bootstrap.auc(self.outcomes.labels_NK[:, task], scores_N, self._users_N)

    def user_auc(self, scores_N: np.ndarray, task: int) -> np.ndarray:
        """UAUC and its replicates, shape (R,)."""
        return self._bootstrap.user_auc(self.outcomes.labels_NK[:, task], scores_N, self._users_N)


def outcomes_of(recording: Recording, tasks: Sequence[TaskRecipe]) -> Outcomes:
    """Read a recording through."""
    parts = [_part(samples, tasks) for samples in recording.blocks(_READ)]
    kinds_T, keys_T, users_T, labels_TK, values_TK = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    base_N = np.flatnonzero(kinds_T <= SampleKind.POSITIVE)
    order = np.argsort(keys_T[base_N], kind="stable")
    at_T = np.minimum(np.searchsorted(keys_T[base_N], keys_T, sorter=order), len(base_N) - 1)
    impressions_T = order[at_T]
    is_known_T = keys_T[base_N][impressions_T] == keys_T
    labels_NK, values_NK = np.zeros((2, len(base_N), len(tasks)))
    np.maximum.at(labels_NK, impressions_T[is_known_T], labels_TK[is_known_T])
    np.maximum.at(values_NK, impressions_T[is_known_T], values_TK[is_known_T])
    for number, task in enumerate(tasks):
        if task.value_unit:
            values_N = values_NK[:, number]
            labels_NK[:, number] = values_N > np.median(values_N[values_N > 0])
    return Outcomes(base_N, users_T[base_N], labels_NK > 0)


def _part(samples: Samples, tasks: Sequence[TaskRecipe]) -> tuple[np.ndarray, ...]:
    """Kinds, impressions, users, labels and values that a block of samples tells."""
    rows = samples.rows_B
    bits_K = 1 << np.arange(len(tasks), dtype=np.uint8)
    in_base_BK = (rows["kind"] <= SampleKind.POSITIVE)[:, None] & (
        (rows["labels"] & rows["known"])[:, None] & bits_K > 0
    )
    is_later_B = np.isin(rows["kind"], (SampleKind.CORRECTION, SampleKind.TASK_CORRECTION)) & (rows["label"] > 0)
    later_BK = is_later_B[:, None] & (rows["task"][:, None] == np.arange(len(tasks)))
    labels_BK = in_base_BK | later_BK
    told_BK = np.nan_to_num(rows["values"][:, [task.positive[0] for task in tasks]], nan=0.0)
    values_BK = np.where(labels_BK, told_BK, 0.0)
    return rows["kind"].copy(), rows["imp_key"].copy(), samples.user_keys.copy(), labels_BK.astype(float), values_BK
