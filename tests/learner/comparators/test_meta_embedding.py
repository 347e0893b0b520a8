"""Meta-Embedding against its formulas, and on a toy where new items can be told from their features."""

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from learner.comparators.meta_embedding import FewSamples, MetaEmbedding

DIM, GROUPS, PER_ITEM = 4, 3, 12


def test_the_loss_is_that_of_both_steps() -> None:
    """With a base model that is linear in the id's embedding its derivatives can be written down."""
    torch.manual_seed(0)
    meta = MetaEmbedding(2, 3, alpha=0.3, step=0.5).double()
    features_IGD = torch.randn(4, 2, 3, dtype=torch.double)
    users = [torch.randn(4, 5, 3, dtype=torch.double) for _ in range(2)]
    labels = [torch.randint(0, 2, (4, 5)).double() for _ in range(2)]
    both = zip(users, labels, strict=True)
    halves = [FewSamples(lambda id_ID, u=u: torch.einsum("ikd,id->ik", u, id_ID), y) for u, y in both]
    got = meta.meta_loss(features_IGD, *halves).item()

    x = features_IGD.numpy().reshape(4, 6) @ meta.dense.weight.detach().numpy().T
    phi, (u_a, u_b), (y_a, y_b) = 0.2 * np.tanh(x), (u.numpy() for u in users), (y.numpy() for y in labels)
    losses = []
    for i in range(4):
        p_a = 1 / (1 + np.exp(-(u_a[i] @ phi[i])))
        l_a = -np.mean(y_a[i] * np.log(p_a) + (1 - y_a[i]) * np.log(1 - p_a))
        stepped = phi[i] - 0.5 * ((p_a - y_a[i]) @ u_a[i]) / 5
        p_b = 1 / (1 + np.exp(-(u_b[i] @ stepped)))
        l_b = -np.mean(y_b[i] * np.log(p_b) + (1 - y_b[i]) * np.log(1 - p_b))
        losses.append(0.3 * l_a + 0.7 * l_b)
    assert got == pytest.approx(np.mean(losses), rel=1e-9)


def test_the_gradient_goes_through_the_step() -> None:
    """Against differences of the loss, second derivatives and all."""
    torch.manual_seed(0)
    meta = MetaEmbedding(2, 3, alpha=0.1, step=2.0, scale=1.0).double()
    features_IGD, users_IKD = torch.randn(3, 2, 3).double(), torch.randn(3, 4, 3).double()
    half = FewSamples(lambda id_ID: torch.einsum("ikd,id->ik", users_IKD, id_ID) ** 2, torch.eye(3, 4).double())
    meta.meta_loss(features_IGD, half, half).backward()
    weight, size = meta.dense.weight, 1e-6
    with torch.no_grad():
        weight[1, 2] += size
    above = meta.meta_loss(features_IGD, half, half).item()
    with torch.no_grad():
        weight[1, 2] -= 2 * size
    below = meta.meta_loss(features_IGD, half, half).item()
    assert weight.grad[1, 2].item() == pytest.approx((above - below) / (2 * size), rel=1e-4)


def test_features_get_no_gradient() -> None:
    features_IGD = torch.randn(3, 2, 4, requires_grad=True)
    MetaEmbedding(2, 4, pool=True)(features_IGD).sum().backward()
    assert features_IGD.grad is None


class Toy:
    """Items of groups: an item's embedding is its group's and a little noise; users are vectors; logit = u . v."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.group_GD = 2.0 * torch.randn(GROUPS, DIM, generator=self.generator)
        self.features_GD = torch.randn(GROUPS, DIM, generator=self.generator)

    def items(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features of items, and what users said of each: users_IKD, labels_IK."""
        group_I = torch.randint(GROUPS, (count,), generator=self.generator)
        true_ID = self.group_GD[group_I] + 0.2 * torch.randn(count, DIM, generator=self.generator)
        noise_ID = 0.1 * torch.randn(count, DIM, generator=self.generator)
        features_IGD = torch.stack([self.features_GD[group_I], noise_ID], dim=1)
        users_IKD = torch.randn(count, 2 * PER_ITEM, DIM, generator=self.generator)
        p_IK = torch.sigmoid(torch.einsum("ikd,id->ik", users_IKD, true_ID))
        return features_IGD, users_IKD, torch.bernoulli(p_IK, generator=self.generator)


def logits(users_IKD: Tensor, id_ID: Tensor) -> Tensor:
    return torch.einsum("ikd,id->ik", users_IKD, id_ID)


@pytest.mark.parametrize("seed", [0, 1])
def test_new_items_start_better_than_at_random_and_stay_so_after_they_have_learned(seed: int) -> None:
    torch.manual_seed(seed)
    toy, step = Toy(seed), 0.5
    meta = MetaEmbedding(2, DIM, scale=5.0, step=step)
    features, users, labels = toy.items(300)
    optimiser = torch.optim.Adam(meta.parameters(), lr=0.05)
    for _ in range(100):
        some_I = torch.randint(300, (64,), generator=toy.generator)
        shuffled_K = torch.randperm(2 * PER_ITEM, generator=toy.generator)
        halves = [
            FewSamples(lambda id_ID, u=users[some_I][:, k]: logits(u, id_ID), labels[some_I][:, k])
            for k in shuffled_K.chunk(2)
        ]
        optimiser.zero_grad()
        meta.meta_loss(features[some_I], *halves).backward()
        optimiser.step()

    features, users, labels = toy.items(200)
    random_ID = torch.randn(200, DIM, generator=toy.generator) * 0.1
    with torch.no_grad():
        generated_ID = meta(features)
    losses: dict[str, list[float]] = {}
    for name, id_ID in (("random", random_ID), ("generated", generated_ID)):
        learned_ID = id_ID.clone().requires_grad_()
        for k in range(4):
            # Judged on the second half of an item's samples; of the first, three are learned from at a time.
            held_out = logits(users[:, PER_ITEM:], learned_ID)
            loss = nnf.binary_cross_entropy_with_logits(held_out, labels[:, PER_ITEM:])
            losses.setdefault(name, []).append(loss.item())
            seen = slice(3 * k, 3 * k + 3)
            learned = nnf.binary_cross_entropy_with_logits(logits(users[:, seen], learned_ID), labels[:, seen])
            (grad_ID,) = torch.autograd.grad(200 * learned, learned_ID)
            with torch.no_grad():
                learned_ID.sub_(step * grad_ID)
    for generated, at_random in zip(losses["generated"], losses["random"], strict=True):
        assert generated < at_random - 0.02
    assert losses["generated"][0] < losses["random"][0] - 0.1


def test_alpha_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"alpha .* must be in \[0, 1\], got 1\.5"):
        MetaEmbedding(2, 3, alpha=1.5)
