"""What the framework's settings change, each by itself, on several interaction models."""

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.mask import FeatureMask
from learner.adaf2m2.model import AdaF2M2, Output
from learner.config import ModelSettings
from learner.models.catalog import NAMES
from tests.learner.adaf2m2.small import FIELDS, batch_of

DIM = 4


def made(deep: str = "dcnv2", **settings: Any) -> AdaF2M2:
    torch.manual_seed(0)
    return AdaF2M2(ModelSettings(deep=deep, dim=DIM, **settings), FIELDS, 4).eval()


def said(model: AdaF2M2, seed: int = 0) -> Output:
    batch, rows = batch_of(6, DIM)
    output: Output = model(rows, batch, torch.Generator().manual_seed(seed))
    return output


@pytest.mark.parametrize("deep", NAMES)
@pytest.mark.parametrize("masks", [0, 2])
@pytest.mark.parametrize("adapter", [False, True])
def test_masks_and_adapter_are_each_on_or_off_around_any_model(deep: str, adapter: bool, masks: int) -> None:
    model = made(deep, adapter=adapter, num_masks=masks)
    output, bare = said(model), made(deep, adapter=False, num_masks=0)
    bare.load_state_dict(model.state_dict(), strict=False)
    assert (output.weight_BF is not None) is adapter
    assert (output.masked_KB is not None) is bool(masks)
    assert torch.allclose(output.main_B, said(bare).main_B, atol=1e-6) is not adapter


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_gates_are_scale_times_a_sigmoid_that_begins_at_its_bias(scale: float, bias: float) -> None:
    model = made(adapter_scale=scale, adapter_bias=bias)
    torch.nn.init.zeros_(model.adapter.h[-1].weight)
    expected = scale / (1 + np.exp(-bias))
    np.testing.assert_allclose(said(model).weight_BF.detach(), expected, rtol=1e-6)


@pytest.mark.parametrize("norms", [(), ("raw",), ("square", "log"), ("log", "sqrt", "square", "raw")])
@pytest.mark.parametrize("num_counts", [0, 3])
def test_the_adapters_signals_are_those_that_are_asked_for(norms: tuple[Any, ...], num_counts: int) -> None:
    adapter = StateAdapter(2, 1, num_counts, 4, hidden=0, norms=norms).eval()
    ids, n, c = torch.randn(5, 4), np.random.default_rng(0).uniform(0.1, 3, (5, 2)), np.arange(15.0).reshape(5, 3)
    of = {"log": np.log, "sqrt": np.sqrt, "square": np.square, "raw": np.asarray}
    x = [of[name](n) for name in norms] + [np.log1p(c)] * (num_counts > 0)
    # Fresh running statistics: mean 0, variance 1.
    r = np.concatenate([ids.numpy(), *(each / np.sqrt(1 + 1e-5) for each in x)], axis=1)
    r = (r - r.mean(1, keepdims=True)) / np.sqrt(r.var(1, keepdims=True) + 1e-5)
    logits = r @ adapter.h.weight.detach().numpy().T + 2.0
    got = adapter(ids, torch.tensor(n, dtype=torch.float32), torch.tensor(c, dtype=torch.float32)).detach()
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-logits)), rtol=1e-4)
    adapter.train()(ids, torch.ones(5, 2), torch.ones(5, 3))  # updates what statistics there are


def test_an_adapter_without_signals_is_refused() -> None:
    fields = FIELDS[2:]
    with pytest.raises(ValueError, match=r"nothing to weigh fields by.*state = true"):
        AdaF2M2(ModelSettings(deep="dcnv2", adapter_norms=(), adapter_counts=False), fields, 4)
    with pytest.raises(ValueError, match=r"adapter_norms names one twice, log, log"):
        ModelSettings(adapter_norms=("log", "log"))


def test_counts_off_means_that_counts_change_nothing() -> None:
    batch, rows = batch_of(6, DIM)
    more = msgspec.structs.replace(batch, counts_BC=batch.counts_BC + 100.0)
    for counts in (True, False):
        model = made(adapter_counts=counts)
        same = torch.equal(model(rows, batch).main_B, model(rows, more).main_B)
        assert same is not counts


@pytest.mark.parametrize("on", [False, True])
def test_gates_on_first_order_terms(on: bool) -> None:
    model = made("deepfm", adapter_first_order=on)
    batch, rows = batch_of(6, DIM)
    output, rows_BFW = model(rows, batch), rows.view(6, 3, DIM + 1)
    first_BF = rows_BFW[..., -1] * (output.weight_BF if on else 1.0)
    weighted_BFD = rows_BFW[..., :-1] * output.weight_BF.unsqueeze(-1)
    assert torch.allclose(output.main_B, model.interaction(weighted_BFD) + first_BF.sum(1), atol=1e-5)


@pytest.mark.parametrize("detach", [False, True])
def test_detaching_keeps_the_adapters_gradient_out_of_the_embeddings(detach: bool) -> None:
    model = made(adapter_detach=detach)
    batch, rows = batch_of(6, DIM)
    model(rows.requires_grad_(), batch).weight_BF.sum().backward()
    assert (rows.grad is None or not rows.grad.any()) is detach


def test_a_probability_per_field_leaves_no_copy_with_few_or_many_masks() -> None:
    """Per copy the share of masked fields is as wide as U[.1, .5]; per field it is that of coins of .3."""
    spread = {}
    for scope in ("copy", "field"):
        mask = FeatureMask(400, 1, num_masks=2, low=0.1, high=0.5, scope=scope)
        _, keep = mask(torch.ones(300, 400, 1), torch.Generator().manual_seed(0))
        share = 1 - keep.float().mean(dim=(2, 3))
        assert share.mean().item() == pytest.approx(0.3, abs=0.01)
        spread[scope] = share.std().item()
    assert spread["copy"] == pytest.approx(0.4 / 12**0.5, abs=0.02)
    assert spread["field"] == pytest.approx((0.3 * 0.7 / 400) ** 0.5, abs=0.004)


def test_masks_of_one_seed_are_the_same_whatever_the_model() -> None:
    """The scope changes the draws; the base model does not."""
    for scope in ("copy", "field"):
        drawn = []
        for deep in ("fm", "dnn"):
            model = made(deep, mask_scope=scope, num_masks=2)
            drawn.append(model.mask(torch.ones(6, 3, DIM), torch.Generator().manual_seed(5))[1])
        assert torch.equal(*drawn)


def test_ids_are_dropped_from_the_main_forward_and_nothing_else_is() -> None:
    probability, num_samples = 0.3, 2000
    batch, rows = batch_of(num_samples, DIM)
    model = made("deepfm", adapter=False, num_masks=0, id_dropout=probability)
    generator = torch.Generator().manual_seed(4)
    dropped_B, rows_BFW = model(rows, batch, generator).main_B, rows.view(num_samples, 3, DIM + 1)
    choices = {}
    for user, item in itertools.product([0.0, 1.0], repeat=2):
        kept = rows_BFW * torch.tensor([user, item, 1.0]).view(1, 3, 1)
        choices[user, item] = model.interaction(kept[..., :-1]) + kept[..., -1].sum(1)
    near = torch.stack([(dropped_B - logit_B).abs() < 1e-5 for logit_B in choices.values()])
    assert bool(near.any(0).all())
    shares = dict(zip(choices, near.float().mean(1).tolist(), strict=True))
    for (user, item), share in shares.items():
        expected = (1 - probability if user else probability) * (1 - probability if item else probability)
        assert share == pytest.approx(expected, abs=0.03)
    assert torch.equal(model(rows, batch).main_B, choices[1.0, 1.0])


def test_masked_copies_are_of_the_whole_sample_though_ids_are_dropped() -> None:
    settings = {"num_masks": 2, "mask_low": 0.0, "mask_high": 0.0, "adapter": False}
    with_ids, without = said(made(**settings)), said(made(id_dropout=0.9, **settings))
    assert torch.allclose(with_ids.masked_KB, without.masked_KB, atol=1e-6)
    assert not torch.allclose(with_ids.main_B, without.main_B)
