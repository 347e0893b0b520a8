"""One training run: epochs over the training part, the best one chosen by validation AUC."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from learner.metrics import auc, log_loss, uauc
from simulators.experiments.offline.fit import Fit
from simulators.experiments.offline.results import Epoch, RunResult, finite
from simulators.experiments.offline.settings import ChoiceError, RunSettings, model_settings
from simulators.experiments.ratings import Ratings
from simulators.experiments.split import counts_of, random_split
from stream.command.doctor import versions

DROPPED = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of fields that are missing at test time; the paper's masks go up to one half."""
Progress = Callable[[int, float], None]
"""Is told the number of the epoch, and how much of it is done."""


class Training:
    """A model, its data and its optimiser.

    Args:
        run: what is trained.
        ratings: the samples.
        device: where.
    """

    def __init__(self, run: RunSettings, ratings: Ratings, device: torch.device) -> None:
        self.run, self.ratings = run, ratings
        self.split = random_split(len(ratings), run.seed, share=run.share)
        for part in (self.split.valid_N, self.split.test_N):
            if len(np.unique(ratings.labels_N[part])) < 2:
                raise ChoiceError(
                    f"--share {run.share:g}: so few samples have labels of one kind only; give a larger one"
                )
        counts = counts_of(ratings, self.split.train_N)
        self.fit = Fit(model_settings(run), run.hyper, ratings, counts, seed=run.seed, device=device)
        self._order = np.random.default_rng(run.seed + 2)

    def epoch(self, progress: Callable[[float], None]) -> float:
        """Train once over the training part; returns the mean loss of its batches."""
        order = self._order.permutation(self.split.train_N)
        losses: list[Tensor] = []
        for start in range(0, len(order), self.run.hyper.batch):
            losses.append(self.fit.step(order[start : start + self.run.hyper.batch]))
            progress(min(1.0, (start + self.run.hyper.batch) / len(order)))
        return float(torch.stack(losses).mean())

    def test_with_dropped(self) -> Iterator[tuple[float, float]]:
        """Share of fields that are missing -> AUC of the test part. Which ones depends on the seed alone."""
        test_N, num_fields = self.split.test_N, len(self.ratings.fields)
        for share in DROPPED:
            dropped_NF = np.random.default_rng(self.run.seed).random((len(test_N), num_fields)) < share
            yield share, auc(self.ratings.labels_N[test_N], self.fit.predict(test_N, dropped_NF))


def train(
    run: RunSettings, ratings: Ratings, device: torch.device, progress: Progress = lambda epoch, share: None
) -> tuple[RunResult, np.ndarray]:
    """Train until validation AUC has not risen for a while; returns what was found, and predictions of the test part.

    Args:
        run: what is trained.
        ratings: the samples.
        device: where.
        progress: is told how far it is.
    """
    began = time.perf_counter()
    training = Training(run, ratings, device)
    epochs: list[Epoch] = []
    best, best_state, predictions_N = 0, {}, np.zeros(0, np.float32)
    for number in range(run.epochs):
        started = time.perf_counter()
        loss = training.epoch(lambda share, number=number: progress(number, share))  # type: ignore[misc]
        epoch, test_N = _judged(training, loss, started)
        epochs.append(epoch)
        if number == 0 or epoch.valid_auc > epochs[best].valid_auc:
            best, predictions_N = number, test_N
            best_state = {name: value.clone() for name, value in training.fit.model.state_dict().items()}
        if number - best >= run.patience or not np.isfinite(loss):
            break
    dropped: dict[str, float] = {}
    if run.drops:
        training.fit.model.load_state_dict(best_state)
        dropped = {"0": epochs[best].test_auc}
        dropped |= {f"{share:g}": value for share, value in training.test_with_dropped()}
    result = RunResult(
        run,
        epochs,
        best,
        sum(parameter.numel() for parameter in training.fit.model.parameters()),
        dropped,
        round(time.perf_counter() - began, 1),
        ratings.source,
        str(device),
        datetime.now(UTC).date().isoformat(),
        versions(),
    )
    return result, predictions_N


def _judged(training: Training, loss: float, started: float) -> tuple[Epoch, np.ndarray]:
    ratings, split = training.ratings, training.split
    valid_N, test_N = training.fit.predict(split.valid_N), training.fit.predict(split.test_N)
    valid_labels_N, test_labels_N = ratings.labels_N[split.valid_N], ratings.labels_N[split.test_N]
    epoch = Epoch(
        finite(loss),
        auc(valid_labels_N, valid_N),
        log_loss(valid_labels_N, valid_N),
        auc(test_labels_N, test_N),
        finite(uauc(test_labels_N, test_N, ratings.users_N[split.test_N])),
        log_loss(test_labels_N, test_N),
        round(time.perf_counter() - started, 2),
    )
    return epoch, test_N
