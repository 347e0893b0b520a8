"""Layers against a NumPy transcription of the paper's equations, and the properties they must have."""

import numpy as np
import pytest
import torch
from torch import nn

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.loss import total_loss
from learner.adaf2m2.mask import FeatureMask
from learner.adaf2m2.model import AdaF2M2, Output
from learner.batch import Batch
from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.models.dcnv2 import DCNv2
from learner.models.fm import FM

FIELDS = [
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("age", "user", "categorical"),
]


def batch_of(num_samples: int, dim: int) -> tuple[Batch, torch.Tensor]:
    """One row per field and sample."""
    torch.manual_seed(1)
    n = num_samples * len(FIELDS)
    batch = Batch(
        torch.arange(1, n + 1),
        torch.arange(n),
        torch.arange(n),
        torch.ones(n),
        torch.rand(num_samples, 2),
        torch.randint(0, 50, (num_samples, 4)).float(),
        torch.randint(0, 2, (num_samples,)).float(),
        torch.zeros(n, 2),
        np.zeros(num_samples, np.int64),
        np.ones(num_samples, np.float32),
        np.zeros(num_samples, np.bool_),
        np.ones((num_samples, n // num_samples), np.int64),
    )
    return batch, torch.randn(n, dim + 2)


def test_masks_are_drawn_per_instance_and_copy_with_p_in_the_given_bounds() -> None:
    mask = FeatureMask(200, 1, num_masks=3, low=0.1, high=0.5)
    _, keep = mask(torch.ones(500, 200, 1), torch.Generator().manual_seed(0))
    share = 1 - keep.float().mean(dim=(2, 3))  # (k, B): the share of masked fields estimates p
    assert share.mean().item() == pytest.approx(0.3, abs=0.01)
    # Every instance and copy has a p of its own: U[.1, .5] has a standard deviation of .115; a shared p would have .03.
    assert share.std().item() == pytest.approx(0.4 / 12**0.5, abs=0.02)
    assert share.min() > 0.02
    assert share.max() < 0.65


def test_masked_fields_are_their_own_default_vector() -> None:
    mask = FeatureMask(4, 3, num_masks=2, low=0.5, high=0.5)
    emb = torch.randn(5, 4, 3)
    masked, keep = mask(emb, torch.Generator().manual_seed(0))
    expected = np.where(keep.numpy(), emb.numpy()[None], mask.default_FD.detach().numpy()[None, None])
    np.testing.assert_array_equal(masked.detach().numpy(), expected)
    assert 0 < keep.float().mean() < 1


def test_the_adapter_is_sigmoid_of_h_of_the_three_signals() -> None:
    adapter = StateAdapter(3, 1, 2, 4, hidden=5).eval()
    adapter.standardise.mean_S.normal_()
    ids, norms, counts = torch.randn(6, 4), torch.rand(6, 2) * 3, torch.randint(0, 100, (6, 2)).float()
    n, c = norms.numpy(), counts.numpy()
    x = np.concatenate([np.log(n), np.sqrt(n), np.square(n), np.log1p(c)], axis=1)
    x = (x - adapter.standardise.mean_S.numpy()) / np.sqrt(adapter.standardise.var_S.numpy() + 1e-5)
    r = np.concatenate([ids.numpy(), x], axis=1)
    r = (r - r.mean(1, keepdims=True)) / np.sqrt(r.var(1, keepdims=True) + 1e-5)
    first, _, last = adapter.h
    hidden = np.maximum(r @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    logits = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(adapter(ids, norms, counts).detach(), 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_running_statistics_are_those_of_the_stream() -> None:
    adapter = StateAdapter(3, 1, 2, 4)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        counts = torch.poisson(torch.full((64, 2), 5.0), generator=rng)
        adapter(torch.zeros(64, 4), torch.ones(64, 2), counts)
    seen = torch.log1p(torch.poisson(torch.full((100_000, 2), 5.0), generator=rng))
    assert torch.allclose(adapter.standardise.mean_S[-2:], seen.mean(0), atol=0.03)
    assert torch.allclose(adapter.standardise.var_S[-2:], seen.var(0), atol=0.03)


def test_dcnv2_follows_its_equation() -> None:
    model = DCNv2(2, 3, num_cross_layers=2, hidden=(4,))
    emb = torch.randn(5, 2, 3)
    x0 = x = emb.flatten(1).numpy()
    for layer in model.cross:
        assert isinstance(layer, nn.Linear)
        x = x0 * (x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()) + x
    deep = model.deep(emb.flatten(1)).detach().numpy()
    head = model.head
    expected = np.concatenate([x, deep], 1) @ head.weight.detach().numpy()[0] + head.bias.item()
    np.testing.assert_allclose(model(emb).detach(), expected, rtol=1e-4, atol=1e-5)


def test_fm_sums_all_pairs() -> None:
    emb = torch.randn(4, 5, 3)
    pairs = sum((emb[:, i] * emb[:, j]).sum(1) for i in range(5) for j in range(i))
    assert torch.allclose(FM()(emb), pairs, atol=1e-5)


@pytest.mark.parametrize("interaction", ["dcnv2", "fm"])
def test_the_served_logit_needs_no_masks(interaction: str) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(interaction=interaction, dim=4, num_masks=3)
    model = AdaF2M2(settings, FIELDS, 4).eval()
    batch, rows = batch_of(6, 4)
    trained = model(rows, batch, torch.Generator().manual_seed(0))
    served = model(rows, batch)
    assert torch.allclose(trained.main_B, served.main_B, atol=1e-6)
    assert trained.masked_KB.shape == (3, 6)
    assert served.masked_KB is None


def test_the_main_pass_weighs_fields_and_the_masked_passes_do_not() -> None:
    torch.manual_seed(0)
    model = AdaF2M2(ModelSettings(dim=4, num_masks=1, mask_low=0, mask_high=0, wide=False, rates=False), FIELDS, 4)
    model.eval()
    batch, rows = batch_of(6, 4)
    out = model(rows, batch, torch.Generator().manual_seed(0))
    emb = rows[:, :4].view(6, 3, 4)
    assert torch.allclose(out.masked_KB[0], model.interaction(emb), atol=1e-5)
    assert torch.allclose(out.main_B, model.interaction(emb * out.weight_BF.unsqueeze(-1)), atol=1e-5)


def test_first_order_terms_are_wide_weights_and_weighted_rates() -> None:
    torch.manual_seed(0)
    batch, rows = batch_of(6, 4)
    plain = AdaF2M2(ModelSettings(dim=4, wide=False, rates=False), FIELDS, 4).eval()
    first = AdaF2M2(ModelSettings(dim=4, wide=True, rates=True, rate_weight=0.5), FIELDS, 4).eval()
    first.load_state_dict(plain.state_dict(), strict=False)
    wide, rates = rows.view(6, 3, 6)[..., 4], rows.view(6, 3, 6)[..., 5]
    expected = plain(rows, batch).main_B + wide.sum(1) + 0.5 * rates[:, :2].sum(1)
    assert torch.allclose(first(rows, batch).main_B, expected, atol=1e-5)


def test_masked_copy_k_keeps_the_order_of_samples() -> None:
    """With k > 1, copy j of sample b must meet the label of sample b."""
    torch.manual_seed(0)
    settings = ModelSettings(dim=4, num_masks=2, mask_low=0, mask_high=0, adapter=False, rates=False)
    model = AdaF2M2(settings, FIELDS, 4).eval()
    batch, rows = batch_of(6, 4)
    out = model(rows, batch, torch.Generator().manual_seed(0))
    assert torch.allclose(out.masked_KB[0], out.main_B, atol=1e-5)
    assert torch.allclose(out.masked_KB[1], out.main_B, atol=1e-5)


def test_loss_is_main_plus_alpha_times_the_sum_over_copies() -> None:
    labels = torch.tensor([1.0, 0.0, 1.0])
    main, masked = torch.tensor([0.3, -1.0, 2.0]), torch.randn(2, 3)

    def bce(logits: torch.Tensor) -> float:
        p = 1 / (1 + np.exp(-logits.numpy()))
        return float(-np.mean(labels.numpy() * np.log(p) + (1 - labels.numpy()) * np.log(1 - p)))

    expected = bce(main) + 0.2 * (bce(masked[0]) + bce(masked[1]))
    assert total_loss(
        Output(main, masked, None), labels, ModelSettings(num_masks=2), LearnerSettings()
    ).item() == pytest.approx(expected, rel=1e-5)
    mean = bce(main) + 0.2 * (bce(masked[0]) + bce(masked[1])) / 2
    settings = ModelSettings(num_masks=2, aux_reduction="mean")
    assert total_loss(Output(main, masked, None), labels, settings, LearnerSettings()).item() == pytest.approx(
        mean, rel=1e-5
    )


def test_dropped_negatives_shift_the_logits_by_the_log_of_their_rate() -> None:
    labels, main, masked = torch.tensor([1.0, 0.0]), torch.tensor([0.3, -1.0]), torch.randn(2, 2)
    rates = torch.tensor([0.25, 1.0])
    plain = [ModelSettings(num_masks=2), LearnerSettings()]
    shifted = total_loss(Output(main, masked, None), labels, *plain, negative_rates_B=rates)
    by_hand = torch.tensor([np.log(4.0), 0.0]).float()
    assert shifted.item() == pytest.approx(
        total_loss(Output(main + by_hand, masked + by_hand, None), labels, *plain).item()
    )


@pytest.mark.parametrize(("detach", "grad"), [("full", True), ("none", False)])
def test_main_emb_grad_decides_whether_the_main_loss_trains_embeddings(detach: str, grad: bool) -> None:
    settings = ModelSettings(dim=4, wide=False, rates=False, main_emb_grad=detach)
    model = AdaF2M2(settings, FIELDS, 4)
    batch, rows = batch_of(6, 4)
    rows.requires_grad_()
    model(rows, batch, torch.Generator().manual_seed(0)).main_B.sum().backward()
    assert bool((rows.grad != 0).any()) is grad
