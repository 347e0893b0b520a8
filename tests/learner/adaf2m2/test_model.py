"""Layers against a NumPy transcription of the paper's equations, and the properties they must have."""

import numpy as np
import pytest
import torch

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.batch import batch_of as learner_batch_of
from learner.adaf2m2.loss import Target, total_loss
from learner.adaf2m2.mask import FeatureMask
from learner.adaf2m2.model import AdaF2M2, Output
from learner.config import ModelSettings
from learner.fast.inputs.occurrences import Occurrences
from learner.models.catalog import NAMES
from tests.learner.adaf2m2.small import FIELDS, batch_of


def target_of(labels: list[float], **others: list[float]) -> Target:
    """Labels that count one each, unless said otherwise."""
    columns = {
        "weights_B": [1.0] * len(labels),
        "undo_B": [0.0] * len(labels),
        "shift_B": [0.0] * len(labels),
        **others,
    }
    return Target(torch.tensor(labels), **{name: torch.tensor(column) for name, column in columns.items()})


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


@pytest.mark.parametrize("interaction", NAMES)
def test_the_served_logit_needs_no_masks(interaction: str) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(deep=interaction, dim=4, num_masks=3)
    model = AdaF2M2(settings, FIELDS, 4).eval()
    batch, rows = batch_of(6, 4)
    trained = model(rows, batch, torch.Generator().manual_seed(0))
    served = model(rows, batch)
    assert torch.allclose(trained.main_B, served.main_B, atol=1e-6)
    assert trained.masked_KB.shape == (3, 6)
    assert served.masked_KB is None


def test_the_main_pass_weighs_fields_and_the_masked_passes_do_not() -> None:
    torch.manual_seed(0)
    model = AdaF2M2(ModelSettings(deep="dcnv2", dim=4, num_masks=1, mask_low=0, mask_high=0, wide=False), FIELDS, 4)
    model.eval()
    batch, rows = batch_of(6, 4)
    out = model(rows, batch, torch.Generator().manual_seed(0))
    emb = rows[:, :4].view(6, 3, 4)
    assert torch.allclose(out.masked_KB[0], model.interaction(emb), atol=1e-5)
    assert torch.allclose(out.main_B, model.interaction(emb * out.weight_BF.unsqueeze(-1)), atol=1e-5)


@pytest.mark.parametrize("interaction", NAMES)
@pytest.mark.parametrize("wide", [False, True])
def test_first_order_terms_are_added_where_they_are_asked_for_or_belong_to_the_model(
    interaction: str, wide: bool
) -> None:
    torch.manual_seed(0)
    batch, rows = batch_of(6, 4)
    model = AdaF2M2(ModelSettings(deep=interaction, dim=4, wide=wide, adapter=False), FIELDS, 4).eval()
    first_BF = rows.view(6, 3, 5)[..., 4]
    expected = model.interaction(rows.view(6, 3, 5)[..., :4])
    if wide or interaction in ("fm", "deepfm"):
        expected = expected + first_BF.sum(1)
    assert torch.allclose(model(rows, batch).main_B, expected, atol=1e-5)


def test_a_masked_field_has_no_first_order_term_either() -> None:
    torch.manual_seed(0)
    batch, rows = batch_of(6, 4)
    settings = ModelSettings(deep="fm", dim=4, wide=True, num_masks=2, mask_low=0.5, mask_high=0.5)
    model = AdaF2M2(settings, FIELDS, 4).eval()
    out = model(rows, batch, torch.Generator().manual_seed(0))
    masked_KBFD, keep_KBF1 = model.mask(rows[:, :4].view(6, 3, 4), torch.Generator().manual_seed(0))
    wide = rows.view(6, 3, 5)[..., 4] * keep_KBF1.squeeze(-1)
    expected = torch.stack([model.interaction(masked_BFD) for masked_BFD in masked_KBFD]) + wide.sum(-1)
    assert 0 < keep_KBF1.mean(dtype=torch.float32) < 1
    assert torch.allclose(out.masked_KB, expected, atol=1e-5)


def test_occurrences_are_pooled_by_sample_and_field_with_their_weights() -> None:
    """Against NumPy: fields of several values, of none, and a row that comes twice."""
    sizes_BF = np.array([[1, 1, 3], [1, 1, 0], [1, 1, 2]])
    keys_N = np.arange(1, 12, dtype=np.uint64)
    rows_N = np.array([4, 7, 9, 4, 2, 4, 8, 4, 7, 0, 9])
    weights_N = np.array([1, 1, 0.5, 0.25, 2, 1, 1, 1, 1, 0.5, 0.5], np.float32)
    fields_N = np.array([0, 1, 2, 2, 2, 0, 1, 0, 1, 2, 2], np.uint8)
    occurrences = Occurrences(keys_N, fields_N, weights_N, np.array([0, 5, 7, 11]), sizes_BF)
    batch = learner_batch_of(occurrences, rows_N, np.ones((3, 2)), np.ones((3, 4)))
    values_RW = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    values_RW[0] = 0
    model = AdaF2M2(ModelSettings(deep="fm", dim=4, wide=True, adapter=False), FIELDS, 4).eval()
    expected, n = [], 0
    for sizes in sizes_BF:
        pooled = []
        for size in sizes:
            pooled.append((weights_N[n : n + size, None] * values_RW[rows_N[n : n + size]]).sum(0))
            n += size
        emb_FD, wide_F = np.array(pooled)[:, :4], np.array(pooled)[:, 4]
        pairs = sum(float(emb_FD[i] @ emb_FD[j]) for i in range(3) for j in range(i))
        expected.append(pairs + wide_F.sum())
    got = model(torch.from_numpy(values_RW[batch.rows_U.numpy()]), batch).main_B.detach()
    assert batch.rows_U.tolist() == list(dict.fromkeys(rows_N.tolist()))  # As they come, each once.
    assert len(batch) == 3
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_masked_copy_k_keeps_the_order_of_samples() -> None:
    """With k > 1, copy j of sample b must meet the label of sample b."""
    torch.manual_seed(0)
    settings = ModelSettings(deep="dcnv2", dim=4, num_masks=2, mask_low=0, mask_high=0, adapter=False)
    model = AdaF2M2(settings, FIELDS, 4).eval()
    batch, rows = batch_of(6, 4)
    out = model(rows, batch, torch.Generator().manual_seed(0))
    assert torch.allclose(out.masked_KB[0], out.main_B, atol=1e-5)
    assert torch.allclose(out.masked_KB[1], out.main_B, atol=1e-5)


def test_loss_is_main_plus_alpha_times_the_sum_over_copies() -> None:
    labels = [1.0, 0.0, 1.0]
    main, masked = torch.tensor([0.3, -1.0, 2.0]), torch.randn(2, 3)

    def bce(logits: torch.Tensor) -> float:
        p, y = 1 / (1 + np.exp(-logits.numpy())), np.array(labels)
        return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))

    def loss(**settings: object) -> float:
        return total_loss(Output(main, masked, None), target_of(labels), ModelSettings(num_masks=2, **settings)).item()

    aux = bce(masked[0]) + bce(masked[1])
    assert loss() == pytest.approx(bce(main) + 0.2 * aux, rel=1e-5)
    assert loss(aux_weight=0.7) == pytest.approx(bce(main) + 0.7 * aux, rel=1e-5)
    assert loss(aux_reduction="mean") == pytest.approx(bce(main) + 0.2 * aux / 2, rel=1e-5)
    alone = total_loss(Output(main, None, None), target_of(labels), ModelSettings())
    assert alone.item() == pytest.approx(bce(main), rel=1e-5)


def test_what_a_sample_says_is_its_labels_error_times_its_weight_less_what_is_taken_back() -> None:
    """The derivative by a logit is w (p - y) - u p, over the samples that count; of masked copies alpha times so."""
    labels, weights = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 2.5, 1.0, 0.0, 0.0, 0.3]
    undo, shift = [0.0, 0.0, 1.0, 0.0, 1.0, 0.5], [0.0, 0.7, -0.4, 0.0, 0.2, 1.0]
    main, masked = torch.randn(6, requires_grad=True), torch.randn(2, 6, requires_grad=True)
    target = target_of(labels, weights_B=weights, undo_B=undo, shift_B=shift)
    total_loss(Output(main, masked, None), target, ModelSettings(num_masks=2, aux_weight=0.3)).backward()
    w, y, u = np.array(weights), np.array(labels), np.array(undo)
    for logits, alpha in ((main, 1.0), (masked, 0.3)):
        p = 1 / (1 + np.exp(-(logits.detach().numpy() + np.array(shift))))
        # The fourth is only predicted.
        np.testing.assert_allclose(logits.grad, alpha * (w * (p - y) - u * p) / 5, rtol=1e-4, atol=1e-7)


def test_a_batch_of_which_nothing_counts_has_no_gradient() -> None:
    main = torch.randn(3, requires_grad=True)
    total_loss(Output(main, None, None), target_of([1.0, 0.0, 1.0], weights_B=[0.0] * 3), ModelSettings()).backward()
    assert main.grad.tolist() == [0, 0, 0]


def test_a_shift_is_added_to_every_logit_for_the_loss_alone() -> None:
    """That of dropped negatives, and the fast part's logit, which the deep one is learned on top of."""
    main, masked, model = torch.tensor([0.3, -1.0]), torch.randn(2, 2), ModelSettings(num_masks=2)
    shift = [float(np.log(4.0)), -0.8]
    shifted = total_loss(Output(main, masked, None), target_of([1.0, 0.0], shift_B=shift), model)
    by_hand = Output(main + torch.tensor(shift), masked + torch.tensor(shift), None)
    assert shifted.item() == pytest.approx(total_loss(by_hand, target_of([1.0, 0.0]), model).item())
    assert shifted.item() != pytest.approx(total_loss(Output(main, masked, None), target_of([1.0, 0.0]), model).item())


@pytest.mark.parametrize(("detach", "grad"), [("full", True), ("none", False)])
def test_main_emb_grad_decides_whether_the_main_loss_trains_embeddings(detach: str, grad: bool) -> None:
    settings = ModelSettings(deep="dcnv2", dim=4, wide=False, main_emb_grad=detach)
    model = AdaF2M2(settings, FIELDS, 4)
    batch, rows = batch_of(6, 4)
    rows.requires_grad_()
    model(rows, batch, torch.Generator().manual_seed(0)).main_B.sum().backward()
    assert bool((rows.grad != 0).any()) is grad
