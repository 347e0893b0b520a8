"""What a block of samples was like before it was learned from: predictions, and what the model knew of each."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learner.samples.columns import Samples
from learner.samples.kind import SampleKind


class ByTask(msgspec.Struct, frozen=True):
    """What each of T tasks is like in B samples; tasks in the order of their declaration, the main one among them."""

    predictions_BT: np.ndarray
    """Probabilities before learning, float32."""
    ranks_BT: np.ndarray
    labels_BT: np.ndarray
    known_BT: np.ndarray
    """Whether a sample brings a label of the task."""
    turned_BT: np.ndarray
    """Whether that turns an earlier negative."""

    def take(self, chosen_B: np.ndarray) -> "ByTask":
        """Those where `chosen_B` (booleans) is true."""
        return ByTask(*(column[chosen_B] for column in msgspec.structs.astuple(self)))


class Learned(msgspec.Struct, frozen=True):
    """What one block of B samples was like before it was learned from."""

    predictions_B: np.ndarray
    ranks_B: np.ndarray
    """Rank scores: the logit without what is said by the user alone."""
    labels_B: np.ndarray
    rates_B: np.ndarray
    """Share of the impressions like this one that may become negatives."""
    corrections_B: np.ndarray
    """Whether the sample turns an earlier negative."""
    norms_B2: np.ndarray
    """Of user and item embedding, as of the block's beginning."""
    unseen_B2: np.ndarray
    """Whether user and item had never been trained."""
    weights_BK: np.ndarray | None = None
    """What state makes each part count (`weight_names`)."""
    sizes_BF: np.ndarray | None = None
    """Occurrences of each field; 0 where a sample lacks it."""
    content_made_B: np.ndarray | None = None
    """Whether the item was new and was predicted by its content (`content_start`)."""
    ages_N: np.ndarray | None = None
    """Event time since each occurrence's row was last learned from, ms; -1 for a new one. Of some blocks only."""
    by_task: ByTask | None = None
    """Of every task, where `learner.tasks` is `all`."""

    def take(self, chosen_B: np.ndarray) -> "Learned":
        """Those where `chosen_B` (booleans) is true."""
        ages = self.ages_N
        if ages is not None and self.sizes_BF is not None:
            ages = ages[np.repeat(chosen_B, self.sizes_BF.sum(axis=1))]
        columns: list[Any] = [
            column if column is None else column[chosen_B] for column in msgspec.structs.astuple(self)[:-2]
        ]
        by_task = None if self.by_task is None else self.by_task.take(chosen_B)
        return msgspec.structs.replace(Learned(*columns), ages_N=ages, by_task=by_task)


def learned_of(samples: Samples, predictions_B: np.ndarray) -> Learned:
    """What is known of samples that were predicted elsewhere."""
    rows = samples.rows_B
    return Learned(
        predictions_B,
        predictions_B,
        rows["label"],
        rows["negative_rate"],
        rows["kind"] == SampleKind.CORRECTION,
        np.stack([rows["user_norm"], rows["item_norm"]], axis=1),
        np.zeros((len(rows), 2), np.bool_),
    )


def joined(parts: Sequence[Learned]) -> Learned:
    """Blocks, one behind the other."""
    columns: list[Any] = []
    for several in zip(*(msgspec.structs.astuple(part)[:-1] for part in parts), strict=True):
        columns.append(None if any(column is None for column in several) else np.concatenate(several))
    by_task = [part.by_task for part in parts if part.by_task is not None]
    whole = Learned(*columns)
    if len(by_task) < len(parts):
        return whole
    of_tasks = zip(*map(msgspec.structs.astuple, by_task), strict=True)
    return msgspec.structs.replace(whole, by_task=ByTask(*map(np.concatenate, of_tasks)))
