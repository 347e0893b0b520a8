"""Trains a SASRec on a domain's sequences; the epoch that validates best is kept.

Legend: W windows of sequences, L positions, U users.
"""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from learner.sequence.sasrec import SasRec
from simulators.experiments.domains.data import Domain
from simulators.experiments.domains.ranking import TEST, VALIDATE, Asked, Scores, asked, gains, ranks

SELECTED_BY = "NDCG@10"


class Trained(NamedTuple):
    """A model as it was after its best epoch."""

    model: SasRec
    epochs: int
    """Until the best one; 0: training did not help."""
    validation: float
    """NDCG@10 among all items."""


def windows(sequences: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Sequences cut into pieces of `length` + 1 items, the last item of one being the first of the next; 0 behind.

    >>> windows([np.array([1, 2, 3, 4])], 2).tolist()
    [[2, 3, 4], [1, 2, 0]]
    """
    rows = []
    for items in sequences:
        for end in range(len(items), 1, -length):
            piece = items[max(0, end - length - 1) : end]
            rows.append(np.pad(piece, (0, length + 1 - len(piece))))
    return np.array(rows, np.int64).reshape(-1, length + 1)


def batches(pieces_WL: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All pieces, in batches of about equal length, without what is behind the longest of each; in random order."""
    lengths_W = (pieces_WL > 0).sum(axis=1)
    order_W = np.lexsort((rng.random(len(pieces_WL)), lengths_W))
    starts = rng.permutation(np.arange(0, len(order_W), size))
    chosen = [order_W[start : start + size] for start in starts]
    return [pieces_WL[of_batch, : lengths_W[of_batch].max()] for of_batch in chosen]


def scores_of(model: SasRec) -> Scores:
    """What the model says of all items behind histories."""
    length = model.settings.length

    def scores(histories: list[np.ndarray]) -> np.ndarray:
        items_UL = np.stack([np.pad(items[-length:], (0, max(0, length - len(items)))) for items in histories])
        with torch.inference_mode():
            found: np.ndarray = model.eval().scores(torch.from_numpy(items_UL))[:, 1:].numpy()
        return found

    return scores


def validated(model: SasRec, what: Asked) -> float:
    """NDCG@10 of a model among all items."""
    return float(gains(ranks(scores_of(model), what).full_U)[SELECTED_BY].mean())


def fit(model: SasRec, domain: Domain, seed: int, told: Callable[[str], None], *, to_test: bool = True) -> Trained:
    """Train with Adam until validation has not been better for a while.

    Args:
        model: where it begins; it is changed.
        domain: whose sequences, without the items that validate and test.
        seed: of order, drawn items and dropout.
        told: is told of each epoch.
        to_test: whether the last items are kept to test, too; a source domain's need not be.
    """
    settings, rng = model.settings, np.random.default_rng(seed)
    torch.manual_seed(seed)
    validate = VALIDATE if to_test else TEST
    what = asked(domain, validate, seed)
    pieces_WL = windows(what.histories, settings.length)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    best = Trained(copy.deepcopy(model), 0, validated(model, what))
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for batch_BL in batches(pieces_WL, settings.batch, rng):
            items_BL, next_BL = (torch.from_numpy(part_BL) for part_BL in (batch_BL[:, :-1], batch_BL[:, 1:]))
            drawn_BL = torch.from_numpy(rng.integers(1, domain.num_items + 1, items_BL.shape))
            optimizer.zero_grad()
            model.loss(items_BL, next_BL, drawn_BL).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = validated(model, what)
        told(f"{domain.name}, epoch {epoch}: validation {SELECTED_BY} {found:.4f}, best {best.validation:.4f}")
        if found > best.validation:
            best = Trained(copy.deepcopy(model), epoch, found)
        elif epoch - best.epochs >= settings.patience:
            break
    return best
