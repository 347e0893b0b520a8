"""Losses of several tasks put together: weights, uncertainty (Kendall et al.), projected gradients (Yu et al.)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from learner.adaf2m2.loss import Target, losses_by_task, total_loss
from learner.adaf2m2.model import Output
from learner.config import BalanceSettings, ModelSettings
from learner.heads.balance import Balance, project

TASKS = ("click", "like", "watch")


def balance(method: str, weights: dict[str, float] | None = None, seed: int = 0) -> Balance:
    return Balance(BalanceSettings(method, weights or {}), TASKS, seed)


ALL = torch.ones(3)


def test_fixed_weights_are_those_of_the_tasks_that_are_named() -> None:
    total = balance("fixed", {"like": 3.0, "watch": 0.5}).total(torch.tensor([1.0, 10.0, 100.0]).unbind(), ALL)
    assert total.item() == pytest.approx(1 + 30 + 50)


def test_uncertainty_learns_the_variance_of_each_task() -> None:
    """With losses held still, exp(-s) L + s / 2 is least where exp(s) = 2 L."""
    own, losses = balance("uncertainty"), torch.tensor([0.1, 0.5, 2.0]).unbind()
    assert own.total(losses, ALL).item() == pytest.approx(2.6)
    optimiser = torch.optim.Adam(own.parameters(), lr=0.02)
    for _ in range(2000):
        optimiser.zero_grad()
        own.backward(losses, ALL, torch.zeros(()), [])
        optimiser.step()
    assert own.log_variance_T.exp().tolist() == pytest.approx([0.2, 1.0, 4.0], rel=0.01)


def test_a_task_without_samples_does_not_move_its_variance() -> None:
    own = balance("uncertainty")
    own.backward(torch.tensor([0.3, 0.0, 0.3]).unbind(), torch.tensor([5, 0, 1]), torch.zeros(()), [])
    assert own.log_variance_T.grad[1] == 0
    assert (own.log_variance_T.grad[[0, 2]] != 0).all()


def by_hand(gradients: np.ndarray, orders: list[list[int]]) -> np.ndarray:
    """Algorithm 1 of Yu et al., line by line."""
    projected = gradients.astype(np.float64).copy()
    for i, order in enumerate(orders):
        for j in order:
            if i != j and projected[i] @ gradients[j] < 0:
                projected[i] -= projected[i] @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
    return projected.sum(0)


def test_projection_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        gradients = rng.normal(size=(4, 3))
        again = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(4, generator=again).tolist() for _ in range(4)]
        got = project(torch.from_numpy(gradients), torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_allclose(got, by_hand(gradients, orders), atol=1e-12)
    agreeing = torch.tensor([[1.0, 0.5], [2.0, 0.0]])
    assert project(agreeing, torch.Generator()).tolist() == [3.0, 0.5]


def test_projected_gradients_are_of_what_tasks_share_and_nothing_else() -> None:
    shared, own_a, own_b = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [3.0], [0.5]))

    def losses() -> list[Tensor]:
        a = shared @ torch.tensor([1.0, 0.0]) + own_a.sum() ** 2
        b = shared @ torch.tensor([-1.0, 1.0]) - own_b.sum()
        return [a, 3 * b, 0 * shared.sum()]

    parameters = [shared, own_a, own_b]
    own = balance("pcgrad", {"like": 2.0})
    rest = (shared * torch.tensor([0.0, 10.0])).sum()
    own.backward(losses(), ALL, rest, parameters)
    # g_a = (1, 0), g_b = 6 (-1, 1): each loses what points against the other.
    g_a, g_b = np.array([1.0, 0.0]), np.array([-6.0, 6.0])
    expected = by_hand(np.array([g_a, g_b]), [[1], [0]]) + np.array([0, 10])
    assert shared.grad.tolist() == pytest.approx(expected.tolist())
    assert (own_a.grad.tolist(), own_b.grad.tolist()) == ([6.0], [-6.0])


def test_where_nothing_conflicts_projection_is_the_weighted_sum() -> None:
    results = []
    for method in ("fixed", "pcgrad"):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        x = torch.rand(8, 4)
        own = balance(method, {"like": 2.0})
        own.backward(layer(x).mean(0).unbind(), ALL, torch.zeros(()), list(layer.parameters()))
        results.append([p.grad.clone() for p in layer.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_samples_without_a_label_of_a_task_count_nothing_in_it() -> None:
    generator = torch.Generator().manual_seed(1)
    main, masked = (torch.randn(s, generator=generator, requires_grad=True) for s in ((5, 2), (2, 5, 2)))
    known = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0], [0, 1]], dtype=torch.float32)
    targets = [Target(torch.tensor([1.0, 0, 1, 0, 1]), known[:, t], torch.zeros(5), torch.zeros(5)) for t in range(2)]
    model = ModelSettings(num_masks=2)
    output = Output(main[:, 0], masked[..., 0], None, main, masked)
    losses, counts_T = losses_by_task(output, targets, model)
    assert counts_T.tolist() == [3, 3]
    for t in range(2):
        is_known = known[:, t] > 0
        target = Target(*(getattr(targets[t], name)[is_known] for name in Target.__struct_fields__))
        alone = total_loss(Output(main[is_known, t], masked[:, is_known, t], None), target, model)
        assert losses[t].item() == pytest.approx(alone.item())
    torch.stack(losses).sum().backward()
    assert ((main.grad != 0) == (known > 0)).all()
