"""Readers of histories against their papers' equations in NumPy, and what AdaF2M2 needs of each."""

from typing import get_args

import numpy as np
import pytest
import torch

from learner.config import ModelSettings
from learner.models.sequences.catalog import READERS, build_reader
from learner.models.sequences.reader import Query, Reader, Sequences
from learner.named import below
from tests.learner.models.equations import Weights, layers, normal

H, L, D, HEADS = 2, 7, 6, 3
names = pytest.mark.parametrize("name", [name for name in READERS if name != "sif"])


def made(name: str) -> Reader:
    """With weights that are neither 0 nor 1 anywhere, so that each of them matters."""
    torch.manual_seed(3)
    settings = ModelSettings(dim=D, history=name, history_items=L, history_hidden=(5, 4), history_heads=HEADS)
    reader = build_reader(settings, [], H)
    assert reader is not None
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return reader.eval()


def given(num_samples: int = 30) -> tuple[Query, Sequences]:
    """Histories of any length; those of the first sample are empty."""
    rng = torch.Generator().manual_seed(1)
    query = Query(torch.randn(num_samples, D, generator=rng), torch.randn(num_samples, H, D, generator=rng))
    shape = (num_samples, H, L)
    mask_BHL = torch.rand(shape, generator=rng) < 0.6
    mask_BHL[0] = False
    gaps_BHL = 1e3 * 10 ** (9 * torch.rand(shape, generator=rng))
    items, categories = (torch.randn(*shape, D, generator=rng) for _ in range(2))
    return query, Sequences(items, categories, mask_BHL, gaps_BHL)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def attention(q_D: np.ndarray, k_ND: np.ndarray, v_ND: np.ndarray) -> np.ndarray:
    """Vaswani et al. 2017, eq. 1, head by head."""
    size, heads = D // HEADS, []
    for n in range(HEADS):
        of = slice(n * size, (n + 1) * size)
        heads.append(softmax(k_ND[:, of] @ q_D[of] / np.sqrt(size)) @ v_ND[:, of])
    return np.concatenate(heads)


def transformer(w: Weights, name: str, q_D: np.ndarray, k_ND: np.ndarray) -> np.ndarray:
    mixed = attention(linear(w, f"{name}.q", q_D), linear(w, f"{name}.k", k_ND), linear(w, f"{name}.v", k_ND))
    x = q_D + linear(w, f"{name}.out", mixed)
    x = normal(x, (0,), w[f"{name}.norm_1.weight"], w[f"{name}.norm_1.bias"])
    x = x + linear(w, f"{name}.narrow", np.maximum(linear(w, f"{name}.wide", x), 0))
    return normal(x, (0,), w[f"{name}.norm_2.weight"], w[f"{name}.norm_2.bias"])


def interest(w: Weights, name: str, q_D: np.ndarray, e_ND: np.ndarray) -> np.ndarray:
    """Zhou et al. 2018, eq. 3."""
    found, unit = np.zeros(D), below(f"{name}.", w)
    for e_D in e_ND:
        told = np.concatenate([e_D, q_D, e_D - q_D, e_D * q_D])
        found += layers(unit, "unit", told, last_is_linear=True) * e_D
    return found


class One:
    """What one sample has of one history: only what is there."""

    def __init__(self, query: Query, sequences: Sequences, b: int, h: int) -> None:
        there = sequences.mask_BHL[b, h].numpy()
        self.item, self.category = query.item_BD[b].double().numpy(), query.category_BHD[b, h].double().numpy()
        self.items_ND = sequences.items_BHLD[b, h].double().numpy()[there]
        self.categories_ND = sequences.categories_BHLD[b, h].double().numpy()[there]
        self.places_N = np.flatnonzero(there)
        self.seconds_N = sequences.gaps_BHL[b, h].double().numpy()[there] / 1000


def expected(name: str, w: Weights, one: One, h: int) -> list[np.ndarray]:
    """The vectors of one history."""
    if not len(one.items_ND):
        return [np.zeros(D)] * (2 if name == "multi_din" else 1)
    if name == "mean":
        return [one.items_ND.mean(0)]
    if name == "din":
        return [interest(w, f"items.{h}", one.item, one.items_ND)]
    if name == "multi_din":
        of_item = interest(w, f"items.{h}", one.item, one.items_ND)
        return [of_item, interest(w, f"categories.{h}", one.category, one.categories_ND)]
    if name == "sim":
        buckets = np.minimum(np.floor(2 * np.log2(1 + one.seconds_N)), 63).astype(int)
        z_NX = np.concatenate([one.items_ND, w["gaps.weight"][buckets]], axis=1)
        keys, values = linear(w, f"to_key.{h}", z_NX), linear(w, f"to_value.{h}", z_NX)
        return [linear(w, f"out.{h}", attention(linear(w, f"to_query.{h}", one.item), keys, values))]
    x_ND = one.items_ND + w["position_HLD"][h, one.places_N]
    encoded_ND = np.stack([transformer(w, f"encoders.{h}", x_D, x_ND) for x_D in x_ND])
    return [transformer(w, f"decoders.{h}", one.item, encoded_ND)]


def test_the_setting_takes_the_readers_that_there_are() -> None:
    assert get_args(ModelSettings.__annotations__["history"]) == ("none", *READERS)


@names
def test_it_follows_its_papers_equations(name: str) -> None:
    reader = made(name)
    query, sequences = given()
    w = {key: value.double().numpy() for key, value in reader.state_dict().items()}
    got_BXD = reader(query, sequences).detach()
    assert got_BXD.shape == (30, reader.num_fields, D)
    for b in range(30):
        by_history = [expected(name, w, One(query, sequences, b, h), h) for h in range(H)]
        wanted_XD = np.concatenate([np.stack(of) for of in zip(*by_history, strict=True)])
        np.testing.assert_allclose(got_BXD[b], wanted_XD, rtol=1e-4, atol=1e-5)
    assert not got_BXD[0].any()
    assert got_BXD[1:].std() > 0.05


@names
def test_what_is_not_there_changes_nothing(name: str) -> None:
    reader, (query, sequences) = made(name), given()
    blank = ~sequences.mask_BHL.unsqueeze(-1)
    other = sequences._replace(
        items_BHLD=torch.where(blank, 7.0, sequences.items_BHLD),
        categories_BHLD=torch.where(blank, -7.0, sequences.categories_BHLD),
        gaps_BHL=torch.where(blank.squeeze(-1), 5.0, sequences.gaps_BHL),
    )
    torch.testing.assert_close(reader(query, sequences), reader(query, other))


@names
def test_samples_do_not_mix(name: str) -> None:
    reader, (query, sequences) = made(name).train(), given()
    alone = [
        reader(
            Query(*(tensor[b : b + 1] for tensor in query[:2])),
            Sequences(*(tensor[b : b + 1] for tensor in sequences[:4])),
        )
        for b in range(30)
    ]
    torch.testing.assert_close(reader(query, sequences), torch.cat(alone), rtol=1e-4, atol=1e-5)


@names
def test_every_parameter_and_every_entry_gets_a_gradient(name: str) -> None:
    reader, (query, sequences) = made(name).train(), given()
    items_BHLD = sequences.items_BHLD.requires_grad_()
    reader(query, sequences).square().sum().backward()
    # Of gaps and positions only those that come.
    assert [key for key, value in reader.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert items_BHLD.grad is not None
    np.testing.assert_array_equal((items_BHLD.grad != 0).any(-1), sequences.mask_BHL)


@pytest.mark.parametrize("name", ["dmt", "sim"])
def test_heads_must_divide_the_vectors(name: str) -> None:
    with pytest.raises(ValueError, match=r"history_heads must divide model\.dim, 6, got 4"):
        build_reader(ModelSettings(dim=6, history=name, history_heads=4), [], 1)
