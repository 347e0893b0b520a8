"""SASRec against its equations in NumPy, and what it may not see."""

import math

import msgspec
import numpy as np
import pytest
import torch

from learner.sequence.config import SasRecSettings
from learner.sequence.sasrec import SasRec

SMALL = SasRecSettings(width=8, blocks=2, heads=2, inner=12, length=6, dropout=0.3)
ITEMS = np.array([[3, 1, 5, 2, 0, 0], [4, 4, 2, 7, 1, 6], [7, 0, 0, 0, 0, 0]])


def made(**settings: object) -> SasRec:
    torch.manual_seed(3)
    model = SasRec(7, msgspec.structs.replace(SMALL, **settings))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.2 * torch.randn_like(weights))
        model.items.weight[0] = 0.0
    return model.eval()


def norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5) * scale + shift


def softmax(x: np.ndarray) -> np.ndarray:
    parts = np.exp(x - x.max(-1, keepdims=True))
    return parts / parts.sum(-1, keepdims=True)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def transcribed(model: SasRec, items_BL: np.ndarray) -> np.ndarray:
    """H0 = e + p; then in each block S = LN(H + MH(H)), H' = LN(S + FFN(S)), by IDP's section on SASRec."""
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    length, width = items_BL.shape[1], model.settings.width
    h = w["items.weight"][items_BL] + w["positions.weight"][:length]
    h = norm(h, w["before.0.weight"], w["before.0.bias"])
    seen = np.tril(np.ones((length, length), bool))
    for block in range(model.settings.blocks):
        of = {name.removeprefix(f"blocks.{block}."): value for name, value in w.items() if f"blocks.{block}." in name}
        parts = []
        queries, keys, values = np.split(h @ of["self_attn.in_proj_weight"].T + of["self_attn.in_proj_bias"], 3, -1)
        size = width // model.settings.heads
        for head in range(model.settings.heads):
            at = slice(head * size, (head + 1) * size)
            logits = queries[..., at] @ keys[..., at].swapaxes(1, 2) / np.sqrt(size)
            parts.append(softmax(np.where(seen, logits, -np.inf)) @ values[..., at])
        mixed = np.concatenate(parts, -1) @ of["self_attn.out_proj.weight"].T + of["self_attn.out_proj.bias"]
        s = norm(h + mixed, of["norm1.weight"], of["norm1.bias"])
        inner = gelu(s @ of["linear1.weight"].T + of["linear1.bias"]) @ of["linear2.weight"].T + of["linear2.bias"]
        h = norm(s + inner, of["norm2.weight"], of["norm2.bias"])
    return h


def test_it_is_what_its_equations_say() -> None:
    model = made()
    with torch.no_grad():
        hidden, scores = model(torch.tensor(ITEMS)).numpy(), model.scores(torch.tensor(ITEMS)).numpy()
    expected = transcribed(model, ITEMS)
    there = ITEMS > 0
    np.testing.assert_allclose(hidden[there], expected[there], atol=1e-5)
    last = expected[np.arange(3), there.sum(1) - 1]
    np.testing.assert_allclose(scores[:, 1:], last @ model.items.weight.detach().numpy()[1:].T, atol=1e-5)
    assert np.isneginf(scores[:, 0]).all()


def test_a_position_sees_neither_what_comes_nor_what_fills_the_rest() -> None:
    model = made()
    others = ITEMS.copy()
    others[1, 4:] = [5, 3]
    with torch.no_grad():
        one, other = model(torch.tensor(ITEMS)), model(torch.tensor(others))
        alone = model(torch.tensor(ITEMS[:1, :4]))
    torch.testing.assert_close(one[1, :4], other[1, :4])
    assert not torch.allclose(one[1, 4], other[1, 4])
    torch.testing.assert_close(one[0, :4], alone[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("loss", ["bpr", "bce", "softmax"])
def test_losses_are_those_of_their_formulas(loss: str) -> None:
    model = made(loss=loss)
    items, following = ITEMS[:, :-1], ITEMS[:, 1:]
    drawn = np.array([[2, 6, 1, 1, 1], [5, 5, 6, 3, 2], [1, 1, 1, 1, 1]])
    hidden, table = transcribed(model, items), model.items.weight.detach().numpy()
    there = following > 0
    scores = hidden[there] @ table.T
    own, other = scores[np.arange(len(scores)), following[there]], scores[np.arange(len(scores)), drawn[there]]
    expected = {
        "bpr": -np.log(1 / (1 + np.exp(other - own))),
        "bce": -np.log(1 / (1 + np.exp(-own))) - np.log(1 - 1 / (1 + np.exp(-other))),
        "softmax": np.log(np.exp(scores[:, 1:]).sum(1)) - own,
    }[loss].mean()
    found = model.loss(torch.tensor(items), torch.tensor(following), torch.tensor(drawn))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_heads_have_equal_parts_of_the_width() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 10 and 4"):
        SasRecSettings(width=10, heads=4)
