"""Self-supervision on features against a NumPy transcription, and the masks that make the two views."""

import numpy as np
import pytest
import torch
from torch import nn

from learner.comparators.ssl import SelfSupervision, correlated_masks, info_nce, mutual_information, random_masks


def by_hand(one: np.ndarray, other: np.ndarray, temperature: float) -> float:
    """-1/B sum_i ln( exp(s_ii / tau) / sum_j exp(s_ij / tau) ), one pair after the other."""
    terms = []
    for i, z in enumerate(one):
        similar = [z @ y / np.linalg.norm(z) / np.linalg.norm(y) / temperature for y in other]
        terms.append(-np.log(np.exp(similar[i]) / np.exp(similar).sum()))
    return float(np.mean(terms))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_loss_is_that_of_the_paper(temperature: float) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(7, 5), torch.randn(7, 5)
    got = info_nce(one, other, temperature).item()
    assert got == pytest.approx(by_hand(one.double().numpy(), other.double().numpy(), temperature), rel=1e-5)


def test_the_two_views_complete_each_other() -> None:
    torch.manual_seed(0)
    ssl, emb_BGD = SelfSupervision(4, 3, temperature=0.2), torch.randn(6, 4, 3)
    masked_BG = random_masks(6, 4, torch.Generator().manual_seed(1))
    encoder = nn.Linear(12, 5)
    loss = ssl(emb_BGD, masked_BG, lambda view: encoder(view.flatten(1)))
    kept = ~masked_BG.numpy()[..., None]
    views = [np.where(keep, emb_BGD.numpy(), ssl.default_GD.detach().numpy()) for keep in (kept, ~kept)]
    weight, bias = encoder.weight.detach().numpy(), encoder.bias.detach().numpy()
    encoded = [view.reshape(6, 12) @ weight.T + bias for view in views]
    assert loss.item() == pytest.approx(by_hand(*encoded, 0.2), rel=1e-4)
    loss.backward()
    assert bool(ssl.default_GD.grad.any())
    assert bool(encoder.weight.grad.any())


def test_random_masks_take_half_of_the_features_each_as_often_as_any_other() -> None:
    masked_BG = random_masks(4000, 5, torch.Generator().manual_seed(0))
    assert set(masked_BG.sum(1).tolist()) == {2}
    np.testing.assert_allclose(masked_BG.float().mean(0), 2 / 5, atol=0.03)
    again = random_masks(4000, 5, torch.Generator().manual_seed(0))
    assert torch.equal(masked_BG, again)


def test_correlated_masks_take_a_feature_with_those_that_tell_of_it() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 500), rng.integers(0, 6, 500)
    # Three features that go together, and three others.
    values = np.stack([a, b, a // 2, b // 2, a % 3, b % 3], axis=1)
    information = mutual_information(values)
    masked_BG = correlated_masks(300, torch.from_numpy(information), torch.Generator().manual_seed(0)).numpy()
    assert {tuple(np.flatnonzero(row).tolist()) for row in masked_BG} == {(0, 2, 4), (1, 3, 5)}


def test_mutual_information_is_that_of_the_shares() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 3, 200), rng.integers(10, 12, 200)
    joint = np.array([[np.mean((x == i) & (y == j)) for j in (10, 11)] for i in range(3)])
    expected = (joint * np.log(joint / joint.sum(1, keepdims=True) / joint.sum(0, keepdims=True))).sum()
    got = mutual_information(np.stack([x, y], axis=1))
    np.testing.assert_allclose(got[0, 1], expected, rtol=1e-9)
    np.testing.assert_allclose(got, got.T)
    p = joint.sum(1)
    assert got[0, 0] == pytest.approx(-(p * np.log(p)).sum())  # of itself it tells everything: its entropy


def test_training_brings_views_of_an_item_together() -> None:
    """Items in two kinds of features that determine each other: their views can be matched."""
    torch.manual_seed(0)
    table = nn.Embedding(20, 8)
    ssl = SelfSupervision(2, 8, temperature=0.2)
    tower = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8))
    parameters = [*ssl.parameters(), *tower.parameters(), *table.parameters()]
    optimiser, generator = torch.optim.Adam(parameters, lr=0.01), torch.Generator().manual_seed(0)
    ids = torch.arange(10)
    losses = []
    for _ in range(150):
        emb_BGD = table(torch.stack([ids, ids + 10], dim=1))
        loss = ssl(emb_BGD, random_masks(10, 2, generator), tower)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two features at least, got 1"):
        SelfSupervision(1, 4)
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0"):
        SelfSupervision(3, 4, temperature=0.0)
