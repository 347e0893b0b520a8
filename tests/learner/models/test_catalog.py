"""Every interaction model against its paper's equations, and the properties that AdaF2M2 needs of each."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from learner.config import Deep, ModelSettings
from learner.models.afn import LogarithmicNeurons
from learner.models.catalog import NAMES, build_interaction
from learner.models.interaction import Interaction
from tests.learner.models.equations import EQUATIONS

FORMS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    ("dnn", {"hidden": ()}),
    ("dcnv2", {"cross_rank": 2}),
    ("dcnv2", {"cross_rank": 3, "cross_experts": 3}),
    ("dcnv2_stacked", {"cross_rank": 2, "cross_experts": 2, "hidden": ()}),
    ("afn", {"layer_norm": False}),
    ("afn", {"afn_ensemble": True}),
    ("eulernet", {"euler_orders": (3,)}),
    ("eulernet", {"euler_orders": (5, 5, 2), "layer_norm": False}),
]
forms = pytest.mark.parametrize(("name", "settings"), FORMS, ids=[f"{name} {given}" for name, given in FORMS])
names = pytest.mark.parametrize("name", NAMES)


def made(name: str, num_fields: int, **settings: Any) -> Interaction:
    """With weights that are neither 0 nor 1 anywhere, so that each of them matters."""
    torch.manual_seed(3)
    given = {"dim": 6, "hidden": (7, 5), "log_neurons": 9, "euler_orders": (4, 3), **settings}
    model = build_interaction(ModelSettings(deep=name, **given), num_fields).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def embeddings(num_fields: int, num_samples: int = 40) -> torch.Tensor:
    emb_BFD = torch.randn(num_samples, num_fields, 6, generator=torch.Generator().manual_seed(1))
    emb_BFD[0] = 0.0  # of whom nothing is known
    return emb_BFD


def test_the_setting_takes_the_models_that_there_are() -> None:
    assert get_args(Deep) == ("none", *NAMES)
    assert set(EQUATIONS) == set(NAMES)


def test_without_a_deep_part_there_is_no_interaction_model() -> None:
    with pytest.raises(ValueError, match=r"model\.deep is 'none'.*'fm'"):
        build_interaction(ModelSettings(), 3)


@forms
@pytest.mark.parametrize("num_fields", [1, 5])
def test_it_follows_its_papers_equations(name: str, settings: dict[str, Any], num_fields: int) -> None:
    model = made(name, num_fields, **settings)
    emb_BFD = embeddings(num_fields)
    weights = {key: value.double().numpy() for key, value in model.state_dict().items()}
    expected_B = EQUATIONS[name](weights, emb_BFD.double().numpy())
    got_B = model(emb_BFD).detach()
    assert got_B.shape == (len(emb_BFD),)
    np.testing.assert_allclose(got_B, expected_B, rtol=1e-5, atol=1e-5)
    assert name == "fm" or expected_B.std() > 1e-3


@forms
@pytest.mark.parametrize("num_fields", [1, 5])
def test_every_parameter_and_every_field_gets_a_gradient(name: str, settings: dict[str, Any], num_fields: int) -> None:
    model = made(name, num_fields, **settings).train()
    emb_BFD = embeddings(num_fields)[1:].requires_grad_()
    model(emb_BFD).square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []
    if name != "fm" or num_fields > 1:
        assert bool((emb_BFD.grad != 0).any(dim=2).any(dim=0).all())


@forms
def test_samples_do_not_mix(name: str, settings: dict[str, Any]) -> None:
    """In training, too: weighted samples and masked copies come in one batch."""
    model = made(name, 4, **settings).train()
    emb_BFD = embeddings(4)
    together_B, alone_B = model(emb_BFD), torch.cat([model(one_1FD) for one_1FD in emb_BFD.split(1)])
    torch.testing.assert_close(together_B, alone_B, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@names
def test_dropout_is_of_training_alone(name: str) -> None:
    model, emb_BFD = made(name, 4, dropout=0.5), embeddings(4)
    still = made(name, 4)
    torch.testing.assert_close(model(emb_BFD), still(emb_BFD))
    if name not in ("fm", "youtubednn"):
        assert not torch.allclose(model.train()(emb_BFD), model(emb_BFD))


@names
def test_only_models_whose_papers_have_first_order_terms_ask_for_them(name: str) -> None:
    assert made(name, 3).needs_first_order is (name in ("fm", "deepfm"))


def test_logarithms_and_powers_stay_numbers() -> None:
    neurons = LogarithmicNeurons(3, 2, 4, layer_norm=False)
    nn.init.constant_(neurons.neurons.weight, 50.0)
    out = torch.stack([neurons(torch.full((1, 3, 2), value)) for value in (0.0, 1e-30, 1e30)])
    assert bool(torch.isfinite(out).all())
