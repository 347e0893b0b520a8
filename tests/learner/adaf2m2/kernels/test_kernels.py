"""Compiled steps of the deep part, values and gradients, against what torch makes of the same equations."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.kernels.copies import with_copies
from learner.adaf2m2.kernels.losses import mean_loss
from learner.adaf2m2.kernels.pooling import pooled
from learner.adaf2m2.kernels.rows import adagrad, distinct
from learner.adaf2m2.kernels.signals import faded_in
from learner.adaf2m2.loss import _summed

B, F, D, K = 37, 5, 6, 3


def check(ours: Callable[..., Tensor], torchs: Callable[..., Tensor], leaves: Sequence[Tensor]) -> None:
    """Both say the same, and give the same gradient to each of the leaves."""
    found, expected = ours(*leaves), torchs(*leaves)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    along = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7))
    for got, wanted in zip(
        torch.autograd.grad(found, leaves, along), torch.autograd.grad(expected, leaves, along), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("seed", range(5))
def test_pooling_is_that_of_embedding_bag(seed: int) -> None:
    """With fields of no value, of several, the last one empty, rows that come twice and some that never do."""
    rng = np.random.default_rng(seed)
    sizes_X = rng.integers(0, 4, B * F)
    sizes_X[-1] = seed % 2
    offsets_X, num = torch.from_numpy(np.cumsum(sizes_X) - sizes_X), int(sizes_X.sum())
    occurrence_N, weights_N = torch.from_numpy(rng.integers(0, 20, num)), torch.rand(num)

    def ours(rows_UW: Tensor) -> Tensor:
        emb_XD, first_X = pooled(rows_UW, occurrence_N, offsets_X, weights_N)
        return torch.cat([emb_XD, first_X[:, None]], dim=1)

    def torchs(rows_UW: Tensor) -> Tensor:
        return nnf.embedding_bag(occurrence_N, rows_UW, offsets_X, mode="sum", per_sample_weights=weights_N)

    check(ours, torchs, [made(25, D + 1, seed=seed)])
    # Half of what is pooled may go nowhere.
    check(lambda rows: pooled(rows, occurrence_N, offsets_X, weights_N)[1], lambda r: torchs(r)[:, -1], [made(25, 4)])


@pytest.mark.parametrize("transposed", [False, True])
def test_copies_are_those_of_where_and_cat(transposed: bool) -> None:
    keep_KBF = torch.rand(K, B, F, generator=torch.Generator().manual_seed(1)) < 0.6

    def torchs(main_BFD: Tensor, weight_BF: Tensor, emb_BFD: Tensor, default_FD: Tensor) -> Tensor:
        masked_KBFD = torch.where(keep_KBF.unsqueeze(-1), emb_BFD, default_FD)
        return torch.cat([main_BFD * weight_BF.unsqueeze(-1), masked_KBFD.flatten(0, 1)])

    def ours(*given: Tensor) -> Tensor:
        return with_copies(*given, keep_KBF)

    emb_BFD = made(B, D, F, seed=3).transpose(1, 2) if transposed else made(B, F, D, seed=3)
    check(ours, torchs, [made(B, F, D), made(B, F, seed=2), emb_BFD, made(F, D, seed=4)])


@pytest.mark.parametrize("copies", [0, 1, K])
def test_the_loss_has_the_value_and_the_gradient_of_its_equation(copies: int) -> None:
    """Negatives taken back, samples that do not count, shifts, and logits so large that exp overflows."""
    rng = torch.Generator().manual_seed(copies)
    labels_B, undo_B = ((torch.rand(B, generator=rng) < share).float() for share in (0.4, 0.3))
    weights_B = torch.rand(B, generator=rng) * (torch.rand(B, generator=rng) < 0.8)
    told = labels_B, weights_B, undo_B, torch.randn(B, generator=rng)
    count = ((weights_B > 0) | (undo_B > 0)).sum()
    assert count < B

    def ours(main_B: Tensor, *masked: Tensor) -> Tensor:
        return mean_loss(main_B, masked[0] if masked else None, told, 0.3)

    def torchs(main_B: Tensor, *masked: Tensor) -> Tensor:
        return (_summed(main_B[None], *told) + sum(0.3 * _summed(each, *told) for each in masked)) / count

    leaves = [(10 * made(B)).detach(), *([(10 * made(copies, B, seed=1)).detach()] if copies else [])]
    for leaf in leaves:
        leaf.view(-1)[:4] = torch.tensor([200.0, -200.0, 90.0, -90.0])
    check(ours, torchs, [leaf.requires_grad_() for leaf in leaves])
    assert torch.isnan(mean_loss(torch.full((B,), torch.nan), None, told))


def test_a_micro_batch_in_which_nothing_counts_has_no_loss() -> None:
    nothing_B, main_B = torch.zeros(B), made(B)
    loss = mean_loss(main_B, None, (nothing_B, nothing_B, nothing_B, nothing_B))
    loss.backward()  # type: ignore[no-untyped-call]
    assert (loss.item(), main_B.grad.abs().sum().item()) == (0.0, 0.0)  # type: ignore[union-attr]


@pytest.mark.parametrize("norms", [("log", "sqrt", "square"), ("raw",), ()])
@pytest.mark.parametrize("num_counts", [0, 4])
def test_an_adapter_that_learns_does_what_torch_does(norms: tuple[str, ...], num_counts: int) -> None:
    """Weights, gradients, and the running statistics behind ten micro-batches."""
    torch.manual_seed(0)
    ours, torchs = (StateAdapter(F, 2, num_counts, D, hidden=7, norms=norms) for _ in range(2))  # type: ignore[arg-type]
    torchs.load_state_dict(ours.state_dict())
    torchs._in_one_pass = torchs._by_torch  # type: ignore[method-assign]
    for batch in range(10):
        norms_B2 = torch.rand(B, 2) * torch.tensor([1e-3, 2e3])
        counts_BC = torch.randint(0, 1000, (B, 4)).float()
        given = {"norms_B2": norms_B2, "counts_BC": counts_BC}
        check(partial(ours, **given), partial(torchs, **given), [made(B, 2 * D, seed=batch)])
        found, expected = (
            torch.autograd.grad(adapter(made(B, 2 * D), norms_B2, counts_BC).square().sum(), adapter.parameters())
            for adapter in (ours, torchs)
        )
        for got, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    for got, wanted in zip(ours.buffers(), torchs.buffers(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_running_statistics_fade_as_torch_says() -> None:
    """Against the equation in torch: in an adapter on a CPU both ways take the compiled one."""
    mean_M, var_M = torch.zeros(3), torch.ones(3)
    expected_M, variance_M = mean_M.clone(), var_M.clone()
    for batch, keep in enumerate((0.0, 0.5, 0.9, 0.999)):
        x_BM = 3 * made(B, 3, seed=batch).detach() + torch.tensor([0.0, 10.0, -200.0])
        faded_in(x_BM, mean_M, var_M, keep)
        of_batch_M, own_M = torch.var_mean(x_BM, dim=0, correction=0)
        shift_M = own_M - expected_M
        variance_M = keep * variance_M + (1 - keep) * (of_batch_M + keep * shift_M * shift_M)
        expected_M = expected_M + (1 - keep) * shift_M
        torch.testing.assert_close(mean_M, expected_M, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(var_M, variance_M, rtol=1e-4, atol=1e-4)


def test_distinct_rows_are_those_of_unique() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 16, 5000):
        rows_N = rng.integers(0, max(1, size // 3), size) * 4096
        rows_U, at_N = distinct(rows_N)
        assert rows_U.tolist() == list(dict.fromkeys(rows_N.tolist()))
        np.testing.assert_array_equal(rows_U[at_N], rows_N)


def test_a_step_of_adagrad_on_rows_is_torchs() -> None:
    """Three steps on some rows of a table that is a part of wider arrays; row 0 stays."""
    rng = np.random.default_rng(0)
    block_RX = rng.random((30, 2 * D), np.float32)
    values_RW, squares_RW = block_RX[:, :D], block_RX[:, D:]
    squares_RW[:] = 0.0
    table = torch.from_numpy(values_RW.copy()).requires_grad_()
    optimiser = torch.optim.Adagrad([table], lr=0.05)
    for _ in range(3):
        rows_U = rng.permutation(30)[:12]
        grad_UW = rng.normal(size=(12, D)).astype(np.float32)
        adagrad(values_RW, squares_RW, rows_U, grad_UW, np.float32(0.5), np.float32(0.05))
        table.grad = torch.zeros_like(table)
        table.grad[rows_U] = torch.from_numpy(grad_UW * 0.5)
        table.grad[0] = 0.0
        optimiser.step()
    np.testing.assert_allclose(values_RW, table.detach().numpy(), rtol=1e-5, atol=1e-6)
