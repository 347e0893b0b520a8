"""Two-tower retrieval on a split: train, keep the best epoch by validation, evaluate.

    data = SplitData(users, items, interactions, train, valid, test)
    model, history = fit(data, variant_of(TwoTowerSettings(), "full"), num_epochs=10)
    figures = evaluate(model, data, num=50)

Counts of users and items are those of the training part alone, as of its end.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from learner.metrics import auc, uauc
from learner.retrieval.config import TwoTowerSettings
from learner.retrieval.entities import Entities
from learner.retrieval.interactions import Interactions, Pairs, counted
from learner.retrieval.model import TwoTower
from learner.retrieval.ranking import grouped, ndcg, recall, relevant_of
from learner.retrieval.search import exact_top, popular_top


class SplitData(NamedTuple):
    """A log and its three parts: indices of interactions."""

    users: Entities
    items: Entities
    interactions: Interactions
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Impressions and positives in the training part, of users and of items; (E, 2) each."""
        part = self.interactions.take(self.train)
        return (
            counted(part.users_N, part.labels_N, len(self.users)),
            counted(part.items_N, part.labels_N, len(self.items)),
        )


class RetrievalFigures(msgspec.Struct, frozen=True):
    """Of one part of a log."""

    recall: float
    """Recall@N, mean over users with a positive in the part."""
    popular_recall: float
    """Likewise, of the items with most positives in the training part."""
    ndcg: float
    """NDCG@N, likewise."""
    auc: float
    """Of the scores of the part's samples, both labels."""
    uauc: float
    """Within each user, weighted by samples."""
    num_users: int
    """Users with a positive in the part."""
    num_samples: int


def fit(
    data: SplitData,
    settings: TwoTowerSettings,
    *,
    num_epochs: int = 10,
    patience: int = 2,
    num: int = 50,
    criterion: str = "recall",
    device: str | torch.device = "cpu",
    report: Callable[[int, float, RetrievalFigures], None] = lambda *_: None,
) -> tuple[TwoTower, list[RetrievalFigures]]:
    """Train on the training part; returns the model of the best epoch, and the validation figures of each.

    Args:
        data: the parts.
        settings: of the model; the seed decides the order of samples, too.
        num_epochs: passes at most.
        patience: epochs without a better one after which it ends.
        num: N.
        criterion: the validation figure that is to be great: recall, ndcg, auc or uauc.
        device: where.
        report: told of each epoch, from 1, its mean loss and validation figures.

    Raises:
        ValueError: no epoch is asked for, or there is no such figure.
    """
    if num_epochs < 1:
        raise ValueError(f"num_epochs must be >= 1, got {num_epochs}")
    if criterion not in ("recall", "ndcg", "auc", "uauc"):
        raise ValueError(f"criterion must be recall, ndcg, auc or uauc, got {criterion!r}")
    model = TwoTower(data.users, data.items, settings, device)
    pairs = _pairs(data)
    model.frequency.update(pairs.items_B[pairs.labels_B > 0])
    if settings.loss == "softmax":
        pairs = pairs.take(pairs.labels_B > 0)
    item_counts_I2 = data.counts()[1]
    valid = data.interactions.take(data.valid)
    rng = np.random.default_rng(settings.seed)
    history: list[RetrievalFigures] = []
    best, best_state, best_epoch = -np.inf, model.state(), 0
    for epoch in range(1, num_epochs + 1):
        order_N = rng.permutation(len(pairs.labels_B))
        losses = [
            model.learn(pairs.take(order_N[start : start + settings.batch]), item_counts_I2)
            for start in range(0, len(order_N), settings.batch)
        ]
        history.append(figures_of(judge(model, data, part=data.valid, num=num, known=data.train), valid))
        report(epoch, float(np.nanmean(losses)), history[-1])
        value = getattr(history[-1], criterion)
        if value > best:
            best, best_state, best_epoch = value, model.state(), epoch
        elif epoch - best_epoch >= patience:
            break
    model.load(best_state)
    return model, history


def _pairs(data: SplitData) -> Pairs:
    part = data.interactions.take(data.train)
    user_counts_E2, item_counts_E2 = data.counts()
    return Pairs(part.users_N, part.items_N, part.labels_N, user_counts_E2[part.users_N], item_counts_E2[part.items_N])


class Judged(NamedTuple):
    """What a model said of one part of a log: G users with something to be found, N samples."""

    users_G: np.ndarray
    recall_G: np.ndarray
    popular_recall_G: np.ndarray
    """Had each been given the items with most positives in the training part."""
    ndcg_G: np.ndarray
    scores_N: np.ndarray
    """Inner products of the part's samples."""


def judge(
    model: TwoTower,
    data: SplitData,
    *,
    part: np.ndarray | None = None,
    num: int = 50,
    known: np.ndarray | None = None,
) -> Judged:
    """What the model says of a part of the log, user by user.

    Each user is given N of all items but those of its interactions in the known parts, whatever their label; its
    other positives in the part are what is relevant.

    Args:
        model: as trained.
        data: the log.
        part: indices of interactions; None: the test part.
        num: N.
        known: indices of interactions that are known; None: training and validation part.
    """
    judged = data.interactions.take(data.test if part is None else part)
    before = data.interactions.take(np.concatenate([data.train, data.valid]) if known is None else known)
    user_counts_E2, item_counts_E2 = data.counts()
    items_IE = model.item_vectors(item_counts_E2)
    users_Q = np.unique(judged.users_N)
    users_QE = model.user_vectors(users_Q, user_counts_E2[users_Q])
    at_N = np.searchsorted(users_Q, judged.users_N)
    scores_N = np.einsum("ne,ne->n", users_QE[at_N], items_IE[judged.items_N])
    positives = judged.take(judged.labels_N > 0)
    users_G, relevant, without = relevant_of(
        positives.users_N, positives.items_N, lambda users_G: seen_by(users_G, before)
    )
    found_GN, _ = exact_top(users_QE[np.searchsorted(users_Q, users_G)], items_IE, num, without=without)
    popular_GN, _ = popular_top(len(users_G), item_counts_E2, num, without=without)
    return Judged(users_G, recall(found_GN, relevant), recall(popular_GN, relevant), ndcg(found_GN, relevant), scores_N)


def figures_of(judged: Judged, samples: Interactions) -> RetrievalFigures:
    """Figures of what was said.

    Args:
        judged: of the samples.
        samples: the part of the log.
    """
    has_users = len(judged.users_G) > 0
    return RetrievalFigures(
        float(judged.recall_G.mean()) if has_users else float("nan"),
        float(judged.popular_recall_G.mean()) if has_users else float("nan"),
        float(judged.ndcg_G.mean()) if has_users else float("nan"),
        auc(samples.labels_N, judged.scores_N),
        uauc(samples.labels_N, judged.scores_N, samples.users_N),
        len(judged.users_G),
        len(samples.labels_N),
    )


def evaluate(model: TwoTower, data: SplitData, *, num: int = 50) -> RetrievalFigures:
    """Figures of the test part; see `judge`."""
    return figures_of(judge(model, data, num=num), data.interactions.take(data.test))


def seen_by(users_G: np.ndarray, before: Interactions) -> list[np.ndarray]:
    """Items of each user's interactions.

    Args:
        users_G: ascending.
        before: the interactions.
    """
    of_N = np.isin(before.users_N, users_G)
    keys_K, items = grouped(before.users_N[of_N], before.items_N[of_N])
    found = dict(zip(keys_K.tolist(), items, strict=True))
    nothing = np.zeros(0, np.int64)
    return [found.get(user, nothing) for user in users_G.tolist()]
