"""Losses, frequencies and counts against plain transcriptions."""

import numpy as np
import pytest
import torch

from learner.retrieval.interactions import counted, counts_before
from learner.retrieval.loss import Candidates, ItemFrequency, binary, in_batch_softmax


@pytest.mark.parametrize("num_others", [0, 4])
def test_the_softmax_is_that_of_the_paper(num_others: int) -> None:
    rng = np.random.default_rng(1)
    users_PE, items_CE = rng.normal(size=(6, 3)), rng.normal(size=(6 + num_others, 3))
    users_P = np.array([0, 1, 2, 0, 3, 4])
    items_C = np.array([5, 6, 5, 7, 8, 9, 6, 1, 1, 2])[: 6 + num_others]
    log_q_C, tau = rng.normal(size=len(items_C)), 0.3
    losses = []
    for i in range(6):
        logits = {}
        for j in range(len(items_C)):
            is_same_user = j < 6 and users_P[i] == users_P[j]
            if j == i or not (is_same_user or items_C[i] == items_C[j]):
                logits[j] = users_PE[i] @ items_CE[j] / tau - log_q_C[j]
        losses.append(-logits[i] + np.log(sum(np.exp(logit) for logit in logits.values())))
    candidates = Candidates(*(torch.from_numpy(each) for each in (items_CE, items_C, log_q_C)))
    found = in_batch_softmax(torch.from_numpy(users_PE), torch.from_numpy(users_P), candidates, tau)
    assert found.item() == pytest.approx(np.mean(losses), abs=1e-12)


def test_the_binary_loss_is_cross_entropy() -> None:
    rng = np.random.default_rng(2)
    users_BE, items_BE, labels_B = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1.0])
    p_B = 1 / (1 + np.exp(-((users_BE * items_BE).sum(1) / 0.5 - 0.7)))
    expected = -np.mean(np.where(labels_B > 0, np.log(p_B), np.log(1 - p_B)))
    tensors = (torch.from_numpy(each) for each in (users_BE, items_BE, labels_B))
    assert binary(*tensors, torch.tensor(-0.7, dtype=torch.float64), 0.5).item() == pytest.approx(expected, abs=1e-12)


def test_what_is_expected_among_negatives_is_what_comes() -> None:
    """Of batches drawn as the model draws them: those of other users, and those drawn uniformly."""
    rng = np.random.default_rng(3)
    liked, frequency = rng.choice(4, 20_000, p=[0.6, 0.3, 0.08, 0.02]), ItemFrequency(4)
    frequency.update(liked)
    users = np.array([0] * 10 + [1] * 15 + list(range(2, 7)))
    counts = np.zeros(4)
    for _ in range(1000):
        items, drawn = rng.choice(liked, 30), rng.integers(0, 4, 10)
        for user in users:
            counts += np.bincount(np.concatenate([items[users != user], drawn]), minlength=4)
    expected = np.exp(frequency.log_expected(np.arange(4), users, 10))
    np.testing.assert_allclose(expected, counts / 30_000, rtol=0.04)


def test_counts_are_those_before_each_sample() -> None:
    rng = np.random.default_rng(4)
    for num in (0, 1, 50):
        entities, labels = rng.integers(0, 6, num), rng.integers(0, 2, num)
        now = rng.integers(0, 9, (6, 2))
        before, expected = counts_before(entities, labels, now), []
        state = now.copy()
        for entity, label in zip(entities, labels, strict=True):
            expected.append(state[entity].tolist())
            state[entity] += [1, label]
        assert before.tolist() == expected
        assert (counted(entities, labels, 6) + now).tolist() == state.tolist()
