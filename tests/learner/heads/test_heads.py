"""Heads against a NumPy transcription of their papers' equations, with the same weights."""

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from learner.config import HeadSettings
from learner.heads.build import HEADS, build_heads
from learner.heads.layers import Heads
from learner.heads.mmoe import MMoE
from learner.heads.ple import PLE
from learner.heads.shared_bottom import SharedBottom
from learner.heads.snr import SNR, Routing

B, H, T = 7, 5, 3
SETTINGS = HeadSettings(experts=3, own_experts=2, expert_width=4, tower=(6, 3))


def settings(**changes: object) -> HeadSettings:
    return msgspec.structs.replace(SETTINGS, **changes)


@pytest.fixture
def representation() -> torch.Tensor:
    return torch.randn(B, H, generator=torch.Generator().manual_seed(3))


def made(kind: str, **changes: object) -> Heads:
    torch.manual_seed(5)
    return build_heads(settings(kind=kind, **changes), H, T).double().eval()


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    out = x @ layer.weight.detach().numpy().T
    return out if layer.bias is None else out + layer.bias.detach().numpy()


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def through(tower: nn.Sequential, x: np.ndarray) -> np.ndarray:
    layers = [layer for layer in tower if isinstance(layer, nn.Linear)]
    for layer in layers[:-1]:
        x = relu(linear(layer, x))
    return linear(layers[-1], x)[:, 0]


def expert(module: nn.Module, x: np.ndarray) -> np.ndarray:
    return relu(linear(module[0], x))


def weighed(gate: nn.Linear, by: np.ndarray, experts: list[np.ndarray]) -> np.ndarray:
    weights = softmax(linear(gate, by))
    return sum(weights[:, [e]] * experts[e] for e in range(len(experts)))


def same(heads: Heads, x_BH: torch.Tensor, expected: list[np.ndarray]) -> None:
    got = heads(x_BH.double()).detach().numpy()
    np.testing.assert_allclose(got, np.stack(expected, axis=1), atol=1e-10)
    assert got.std() > 1e-3


def test_shared_bottom(representation: torch.Tensor) -> None:
    heads = made("shared_bottom")
    assert isinstance(heads, SharedBottom)
    f = expert(heads.bottom, representation.double().numpy())
    same(heads, representation, [through(tower, f) for tower in heads.towers])


def test_mmoe(representation: torch.Tensor) -> None:
    heads, x = made("mmoe"), representation.double().numpy()
    assert isinstance(heads, MMoE)
    experts = [expert(one, x) for one in heads.experts]
    same(
        heads,
        representation,
        [through(t, weighed(g, x, experts)) for t, g in zip(heads.towers, heads.gates, strict=True)],
    )


@pytest.mark.parametrize("own", [0, 2])
def test_cgc_is_ple_of_one_layer(own: int, representation: torch.Tensor) -> None:
    heads, x = made("ple", own_experts=own), representation.double().numpy()
    assert isinstance(heads, PLE)
    (layer,) = heads.layers
    assert layer.shared_gate is None
    shared = [expert(one, x) for one in layer.shared]
    expected = []
    for k in range(T):
        selected = [expert(one, x) for one in layer.own[k]] + shared
        assert layer.gates[k].weight.shape == (own + 3, H)
        expected.append(through(heads.towers[k], weighed(layer.gates[k], x, selected)))
    same(heads, representation, expected)


def test_ple(representation: torch.Tensor) -> None:
    heads, x = made("ple", layers=3), representation.double().numpy()
    assert isinstance(heads, PLE)
    g_task, g_shared = [x] * T, x
    for n, layer in enumerate(heads.layers):
        shared = [expert(one, g_shared) for one in layer.shared]
        own = [[expert(one, g_task[k]) for one in layer.own[k]] for k in range(T)]
        next_task = [weighed(layer.gates[k], g_task[k], own[k] + shared) for k in range(T)]
        if n < 2:
            g_shared = weighed(layer.shared_gate, g_shared, [e for k in range(T) for e in own[k]] + shared)
        g_task = next_task
    same(heads, representation, [through(heads.towers[k], g_task[k]) for k in range(T)])


def hard_concrete(log_alpha: np.ndarray, u: np.ndarray | None) -> np.ndarray:
    """z of Louizos et al. (2018), eq. 10-11, with the constants of SNR."""
    beta, gamma, zeta = 2 / 3, -0.1, 1.1
    noise = 0.0 if u is None else np.log(u) - np.log(1 - u)
    s = 1 / (1 + np.exp(-(noise + log_alpha) / (1 if u is None else beta)))
    return np.minimum(1, np.maximum(0, s * (zeta - gamma) + gamma))


def routed(routing: Routing, inputs: list[np.ndarray], z: np.ndarray) -> list[np.ndarray]:
    weight = routing.weight_MNXX.detach().numpy()
    return [
        sum(z[i, j] * inputs[j] @ weight[i, j] for j in range(len(inputs)))
        for i in range(routing.log_alpha_MN.shape[0])
    ]


@pytest.mark.parametrize("training", [False, True])
def test_snr(training: bool, representation: torch.Tensor) -> None:
    heads, x = made("snr", layers=2), representation.double().numpy()
    assert isinstance(heads, SNR)
    for routing in (heads.routings[0], heads.last):
        with torch.no_grad():
            routing.log_alpha_MN.normal_(generator=torch.Generator().manual_seed(1))
    heads.train(training)
    heads.generator = torch.Generator().manual_seed(9)
    again = torch.Generator().manual_seed(9)
    z = []
    for routing in (heads.routings[0], heads.last):
        log_alpha = routing.log_alpha_MN.detach().numpy()
        u = torch.rand(log_alpha.shape, generator=again).double().numpy() if training else None
        z.append(hard_concrete(log_alpha, u))
    u1 = [expert(one, x) for one in heads.first]
    u2 = [expert(one, v) for one, v in zip(heads.layers[0], routed(heads.routings[0], u1, z[0]), strict=True)]
    expected = [through(t, v) for t, v in zip(heads.towers, routed(heads.last, u2, z[1]), strict=True)]
    got = heads(representation.double()).detach().numpy()
    np.testing.assert_allclose(got, np.stack(expected, axis=1), atol=1e-6)


def test_snr_draws_connections_while_it_learns_and_pays_for_those_that_are_open() -> None:
    routing = Routing(4, 5, 3)
    with torch.no_grad():
        routing.log_alpha_MN.copy_(torch.linspace(-3, 3, 20).view(5, 4))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([routing.connections(generator) for _ in range(4000)])
    assert (drawn == 0).any()
    assert (drawn == 1).any()
    # The expected number of open ones is that of those drawn.
    assert routing.expected_open().item() == pytest.approx((drawn > 0).float().mean(0).sum().item(), abs=0.15)
    heads = SNR(settings(kind="snr", layers=2, gate_sparsity=0.5), H, T)
    heads.penalty().backward()
    for log_alpha in (heads.routings[0].log_alpha_MN, heads.last.log_alpha_MN):
        assert (log_alpha.grad > 0).all()
    shut = SNR(settings(kind="snr", layers=2, gate_sparsity=0.5), H, T)
    for module in (shut.routings[0], shut.last):
        with torch.no_grad():
            module.log_alpha_MN.fill_(-20.0)
    assert 0 <= shut.penalty().item() < 1e-6 < heads.penalty().item() < 0.5


@pytest.mark.parametrize("kind", list(HEADS))
def test_every_parameter_has_a_gradient_and_a_task_reaches_its_own_only(
    kind: str, representation: torch.Tensor
) -> None:
    heads = made(kind, layers=2, expert_width=16, tower=(16,)).float().train()
    heads(representation).square().sum().backward()
    untouched = [name for name, p in heads.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert untouched == []
    heads.zero_grad()
    heads(representation)[:, 0].sum().backward()
    for k in (1, 2):
        assert all(p.grad is None or not p.grad.abs().sum() for p in heads.towers[k].parameters())


def test_others_pay_nothing() -> None:
    assert [made(kind).penalty().item() for kind in ("shared_bottom", "mmoe", "ple")] == [0.0] * 3


def test_snr_needs_two_layers() -> None:
    with pytest.raises(ValueError, match="layers >= 2, got 1"):
        HeadSettings(kind="snr")
