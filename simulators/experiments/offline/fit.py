"""A model, its samples and its optimiser: steps and predictions."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.loss import Target, total_loss
from learner.config import ModelSettings
from simulators.experiments.feed import Feed
from simulators.experiments.offline.model import OfflineModel
from simulators.experiments.offline.settings import HyperParameters
from simulators.experiments.ratings import Ratings

_EVALUATED = 16_384
"""Samples predicted at a time."""


class Fit:
    """One model that is being trained.

    Args:
        settings: of the model.
        hyper: of its optimiser and of its initial embeddings.
        ratings: the samples.
        counts: impressions and positives of users and of items, as `split.counts_of`.
        seed: of the initial weights and of the masks.
        device: where.
    """

    def __init__(
        self,
        settings: ModelSettings,
        hyper: HyperParameters,
        ratings: Ratings,
        counts: tuple[np.ndarray, np.ndarray],
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.feed = Feed(ratings, counts, device)
        with torch.device(device):
            self.model = OfflineModel(settings, ratings.fields, ratings.num_rows, init=hyper.init, seed=seed)
            self._masks = torch.Generator(device).manual_seed(seed + 1)
        self.optimiser = self.model.optimiser(hyper.lr, hyper.decay)

    def loss(self, samples_B: np.ndarray, *, noisy: bool = True) -> Tensor:
        """Loss of samples, with gradients.

        Args:
            samples_B: numbers of the samples.
            noisy: whether masks, and ids that are dropped, are drawn.
        """
        if not self.model.training:
            self.model.train()
        batch, labels_B = self.feed.batch(samples_B, self.model.rows_RW), self.feed.labels(samples_B)
        nothing_B = torch.zeros_like(labels_B)
        target = Target(labels_B, torch.ones_like(labels_B), nothing_B, nothing_B)
        # A mode that every operation passes through, which a CPU need not be told.
        with nullcontext() if self.device.type == "cpu" else torch.device(self.device):
            return total_loss(self.model(batch, self._masks if noisy else None), target, self.settings)

    def step(self, samples_B: np.ndarray) -> Tensor:
        """One step of everything; returns the loss before it."""
        loss = self.loss(samples_B)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    @torch.inference_mode()
    def predict(self, samples_N: np.ndarray, dropped_NF: np.ndarray | None = None) -> np.ndarray:
        """Probabilities of samples, float32; with some of their fields missing if that is said."""
        self.model.eval()
        rows_RW = self.model.with_defaults()
        found = []
        for start in range(0, len(samples_N), _EVALUATED):
            chosen = slice(start, start + _EVALUATED)
            dropped = None if dropped_NF is None else dropped_NF[chosen]
            batch = self.feed.batch(samples_N[chosen], rows_RW, dropped)
            found.append(torch.sigmoid(self.model.dense(rows_RW, batch).main_B).cpu().numpy())
        # A model that has diverged says nothing, and is judged so.
        predictions_N: np.ndarray = np.nan_to_num(np.concatenate(found), nan=0.5)
        return predictions_N
