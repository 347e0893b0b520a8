"""SIF's reader and mixer against their equations in NumPy, and what AdaF2M2 needs of them."""

import numpy as np
import torch

from learner.config import Mixing, ModelSettings, SifSettings
from learner.models.sequences.attention import attend
from learner.models.sequences.reader import Query, Sequences
from learner.models.sequences.sif import SIF
from learner.models.sif import SIFHead
from learner.named import below
from learner.sif.codebooks import decode
from tests.learner.models.equations import Weights, layers, normal
from tests.learner.sif.small import FIELDS, SETTINGS, SLOTS

H, L, D, HEADS, F, NUM_INPUTS = 2, 4, 6, 3, 5, 8
T = len(SLOTS)


def made(tokens: str = "codes", mixing: Mixing = "factorised") -> SIF:
    torch.manual_seed(3)
    sif = SifSettings(
        tokens=tokens,  # type: ignore[arg-type]
        mixing=mixing,
        fields_per_token=2,
        crosses=SETTINGS.crosses,
        buckets=64,
        code_bits=4,
    )
    reader = SIF(ModelSettings(deep="sif", history="sif", dim=D, history_heads=HEADS, sif=sif), FIELDS, H)
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if reader.tokenizer is not None:
        reader.tokenizer.version += 2
        reader.tokenizer.frozen_2TMVD.normal_()
    return reader.eval()


def given(num_samples: int = 12) -> tuple[Query, Sequences]:
    """The first sample has no history."""
    rng = torch.Generator().manual_seed(1)
    shape = (num_samples, H, L)
    mask_BHL = torch.rand(shape, generator=rng) < 0.6
    mask_BHL[0] = False
    codes_BHL = torch.randint(0, 1 << 40, shape, generator=rng) << 4
    codes_BHL += torch.where(mask_BHL, torch.randint(1, 3, shape, generator=rng), 0)
    items, categories = (torch.randn(*shape, D, generator=rng) for _ in range(2))
    own = torch.randn(num_samples, NUM_INPUTS, D, generator=rng)
    fields = torch.randn(num_samples, F, D, generator=rng)
    gaps_BHL = 1e3 * 10 ** (9 * torch.rand(shape, generator=rng))
    query = Query(fields[:, 2], torch.zeros(num_samples, H, D), fields)
    return query, Sequences(items, categories, mask_BHL, gaps_BHL, codes_BHL, own)


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def attention(w: Weights, q_ND: np.ndarray, k_MD: np.ndarray) -> np.ndarray:
    """Vaswani et al. 2017, eq. 1, head by head."""
    q, k, v = linear(w, "q", q_ND), linear(w, "k", k_MD), linear(w, "v", k_MD)
    size, heads = D // HEADS, []
    for n in range(HEADS):
        of = slice(n * size, (n + 1) * size)
        scores = np.exp(q[:, of] @ k[:, of].T / np.sqrt(size))
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:, of])
    return linear(w, "out", np.concatenate(heads, axis=1))


def mixer(w: Weights, x_RTD: np.ndarray) -> np.ndarray:
    """All rows of every block: that only the target is asked for in the last one must change nothing."""
    for n in range(2):
        of = below(f"blocks.{n}.", w)
        norms = [(of[f"norm_{i}.weight"], of[f"norm_{i}.bias"]) for i in (1, 2, 3)]
        given = normal(x_RTD, (2,), *norms[0])
        x_RTD = x_RTD + np.stack([attention(below("tokens.", of), x, x) for x in given])
        given = normal(x_RTD, (2,), *norms[1])
        columns = [attention(below("samples.", of), given[:, t], given[:, t]) for t in range(x_RTD.shape[1])]
        x_RTD = x_RTD + np.stack(columns, axis=1)
        given = normal(x_RTD, (2,), *norms[2])
        x_RTD = x_RTD + linear(of, "narrow", np.maximum(linear(of, "wide", given), 0))
    return normal(x_RTD[0], (1,), w["norm.weight"], w["norm.bias"])


def flat_mixer(w: Weights, x_RTD: np.ndarray) -> np.ndarray:
    """Every sub-token of every row attends to all, in every block."""
    for n in range(2):
        of = below(f"blocks.{n}.", w)
        given = normal(x_RTD, (2,), of["norm_1.weight"], of["norm_1.bias"]).reshape(-1, D)
        x_RTD = x_RTD + attention(below("all.", of), given, given).reshape(x_RTD.shape)
        given = normal(x_RTD, (2,), of["norm_3.weight"], of["norm_3.bias"])
        x_RTD = x_RTD + linear(of, "narrow", np.maximum(linear(of, "wide", given), 0))
    return normal(x_RTD[0], (1,), w["norm.weight"], w["norm.bias"])


def rows(reader: SIF, w: Weights, query: Query, sequences: Sequences, b: int) -> np.ndarray:
    """What the mixer is given of one sample: the target, then what is there."""
    assert query.fields_BFD is not None
    assert sequences.own_BID is not None
    assert sequences.codes_BHL is not None
    emb = np.concatenate([query.fields_BFD[b].double().numpy(), sequences.own_BID[b, F:].double().numpy()])
    target = []
    for t, slot in enumerate(SLOTS):
        flat = np.concatenate([emb[i] for i in slot])
        target.append(flat @ w["res_TXD"][t, : len(flat)] + w["res_TD"][t] + w["outcomes.weight"][0])
    found = [np.stack(target)]
    for h, n in np.argwhere(sequences.mask_BHL[b].numpy()):
        word = int(sequences.codes_BHL[b, h, n])
        codes = np.array([(word >> (4 + 4 * i)) & 15 for i in range(2 * T)]).reshape(T, 2)
        books = w["tokenizer.frozen_2TMVD"][0 if word & 15 == 2 else 1]
        e = np.stack([books[t, 0, codes[t, 0]] + books[t, 1, codes[t, 1]] for t in range(T)])
        seconds = float(sequences.gaps_BHL[b, h, n].double()) / 1000
        bucket = min(int(np.floor(2 * np.log2(1 + seconds))), 63)
        found.append(e + w["gaps.weight"][bucket] + w["outcomes.weight"][1 + h])
    return np.stack(found) + w["slots_TD"]


def test_reader_and_mixer_follow_the_equations() -> None:
    reader, (query, sequences) = made(), given()
    w = {key: value.double().numpy() for key, value in reader.state_dict().items()}
    got_BTD = reader(query, sequences).detach()
    assert got_BTD.shape == (12, reader.num_fields, D) == (12, T, D)
    for b in range(12):
        wanted_TD = mixer(below("mixer.", w), rows(reader, w, query, sequences, b))
        np.testing.assert_allclose(got_BTD[b], wanted_TD, rtol=1e-4, atol=1e-4)


def test_other_ways_to_mix_follow_their_equations() -> None:
    query, sequences = given()
    for mixing, wanted_of in (
        ("flat", flat_mixer),
        ("pooled", lambda w, x_RTD: mixer(w, x_RTD.mean(1, keepdims=True))),
    ):
        reader = made(mixing=mixing)  # type: ignore[arg-type]
        w = {key: value.double().numpy() for key, value in reader.state_dict().items()}
        got_BXD = reader(query, sequences).detach()
        assert got_BXD.shape == (12, reader.num_fields, D) == (12, 1 if mixing == "pooled" else T, D)
        for b in range(12):
            wanted_XD = wanted_of(below("mixer.", w), rows(reader, w, query, sequences, b))
            np.testing.assert_allclose(got_BXD[b], wanted_XD, rtol=1e-4, atol=1e-4)


def test_the_end_is_a_perceptron_on_the_mean() -> None:
    torch.manual_seed(0)
    head, emb = SIFHead(D, hidden=(7,)), torch.randn(9, T, D)
    w = {key: value.double().numpy() for key, value in head.state_dict().items()}
    wanted = layers(w, "end", emb.double().numpy().mean(1), last_is_linear=True)[:, 0]
    np.testing.assert_allclose(head(emb).detach(), wanted, atol=1e-5)


def test_what_is_not_there_changes_nothing_and_no_history_scores() -> None:
    reader, (query, sequences) = made(), given()
    assert sequences.codes_BHL is not None
    other = sequences._replace(
        codes_BHL=torch.where(sequences.mask_BHL, sequences.codes_BHL, 12345 << 4),
        gaps_BHL=torch.where(sequences.mask_BHL, sequences.gaps_BHL, 5.0),
    )
    torch.testing.assert_close(reader(query, sequences), reader(query, other))
    none = Sequences(*(of[:, :, :0] for of in sequences[:5]), sequences.own_BID)  # type: ignore[index]
    torch.testing.assert_close(reader(query, none)[0], reader(query, sequences)[0])
    assert reader(query, none).isfinite().all()
    assert (reader(query, none)[1:] - reader(query, sequences)[1:]).abs().max() > 0.01


def test_samples_do_not_mix() -> None:
    reader, (query, sequences) = made(), given()
    alone = [
        reader(Query(*(of[b : b + 1] for of in query)), Sequences(*(of[b : b + 1] for of in sequences)))  # type: ignore[index]
        for b in range(12)
    ]
    torch.testing.assert_close(reader(query, sequences), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_every_parameter_that_serves_gets_a_gradient() -> None:
    reader, (query, sequences) = made().train(), given()
    reader(query, sequences).square().sum().backward()
    served = [(name, value) for name, value in reader.named_parameters() if not name.startswith("tokenizer.")]
    assert [name for name, value in served if value.grad is None or not value.grad.any()] == []


def test_items_alone_are_one_token() -> None:
    reader, (query, sequences) = made("items"), given()
    w = {key: value.double().numpy() for key, value in reader.state_dict().items()}
    got_B1D = reader(query, sequences).detach()
    for b in range(12):
        found = [query.item_BD[b].double().numpy() + w["outcomes.weight"][0]]
        for h, n in np.argwhere(sequences.mask_BHL[b].numpy()):
            bucket = min(int(np.floor(2 * np.log2(1 + float(sequences.gaps_BHL[b, h, n].double()) / 1000))), 63)
            item = sequences.items_BHLD[b, h, n].double().numpy()
            found.append(item + w["gaps.weight"][bucket] + w["outcomes.weight"][1 + h])
        wanted = mixer(below("mixer.", w), np.stack(found)[:, None] + w["slots_TD"])
        np.testing.assert_allclose(got_B1D[b], wanted, rtol=1e-4, atol=1e-4)


def test_item_and_fields_are_a_token_each_and_views_are_one_past() -> None:
    reader, (query, sequences) = made("fields"), given()
    # Both views are of the same entries.
    mask, gaps, items = (
        of[:, :1].expand_as(of) for of in (sequences.mask_BHL, sequences.gaps_BHL, sequences.items_BHLD)
    )
    sequences = sequences._replace(mask_BHL=mask, gaps_BHL=gaps, items_BHLD=items)
    query = query._replace(category_BHD=torch.randn(12, H, D, generator=torch.Generator().manual_seed(2)))
    w = {key: value.double().numpy() for key, value in reader.state_dict().items()}
    got_BTD = reader(query, sequences).detach()
    assert got_BTD.shape == (12, reader.num_fields, D) == (12, 1 + H, D)
    for b in range(12):
        target = torch.cat([query.item_BD[b : b + 1], query.category_BHD[b]]).double().numpy()
        found = [target + w["outcomes.weight"][0]]
        for n in np.flatnonzero(mask[b, 0].numpy()):
            bucket = min(int(np.floor(2 * np.log2(1 + float(gaps[b, 0, n].double()) / 1000))), 63)
            past = torch.cat([items[b, :1, n], sequences.categories_BHLD[b, :, n]]).double().numpy()
            found.append(past + w["gaps.weight"][bucket] + w["outcomes.weight"][1])
        wanted = mixer(below("mixer.", w), np.stack(found) + w["slots_TD"])
        np.testing.assert_allclose(got_BTD[b], wanted, rtol=1e-4, atol=1e-4)


def test_who_has_no_entry_gets_nothing_and_no_gradient_that_is_none() -> None:
    rng = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(3, 2, D, generator=rng).requires_grad_() for _ in range(3))
    mask = torch.tensor([[True, False], [False, False], [True, True]])
    got = attend(q, k, v, mask, HEADS)
    assert not got[1].any()
    torch.testing.assert_close(got[0], v[0, :1].expand(2, D))
    got.square().sum().backward()  # type: ignore[no-untyped-call]
    for of in (q, k, v):
        assert of.grad is not None
        assert of.grad.isfinite().all()
        assert not of.grad[1].any()


def test_serving_path_and_codes_come_to_agree() -> None:
    """L_align alone, on samples whose fields are the tokenizer's own: W_res learns what the codes say."""
    reader, tokenizer = made(), made().tokenizer
    assert tokenizer is not None
    rng = torch.Generator().manual_seed(5)
    emb = 0.5 * torch.randn(6, NUM_INPUTS, D, generator=rng)[torch.randint(0, 6, (300,), generator=rng)]
    query = Query(emb[:, 2], torch.zeros(300, H, D), emb[:, :F])
    optimiser = torch.optim.Adam([reader.res_TXD, reader.res_TD], lr=0.02)
    gaps = []
    for _ in range(150):
        told = tokenizer.auxiliary(emb, reader.target(query, emb))
        gap = (reader.target(query, emb) - decode(told.quantised.codes_BTM, tokenizer.codebooks.books_TMVD)).square()
        gaps.append(gap.sum((1, 2)).mean().item())
        optimiser.zero_grad()
        told.loss.backward()
        optimiser.step()
        tokenizer.update(told.quantised)
    assert gaps[-1] < 0.05 * gaps[1]
