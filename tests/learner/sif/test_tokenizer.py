"""Inputs, vectors and losses against plain transcriptions; versions; what is encoded without torch is the same."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from learner.named import arrays_in
from learner.samples.keys import value_key
from learner.sif.frozen import FrozenTokenizer, nearest
from learner.sif.inputs import InputReader, Inputs, slots_of
from learner.sif.packed import check_bits, pack, tag_of
from learner.sif.tokenizer import SampleTokenizer, slices_of
from tests.learner.sif.small import FIELDS, SETTINGS, SLOTS, samples_of

DIM, NUM_INPUTS = 4, 8
READER = InputReader(FIELDS, SETTINGS)


def made() -> SampleTokenizer:
    torch.manual_seed(1)
    assert slots_of(FIELDS, SETTINGS) == SLOTS
    return SampleTokenizer(SLOTS, NUM_INPUTS, SETTINGS, DIM)


def learned(tokenizer: SampleTokenizer, inputs: Inputs, times: int = 1) -> None:
    for _ in range(times):
        emb_BID = tokenizer.embed(inputs)
        target = torch.zeros(len(emb_BID), len(SLOTS), DIM)
        tokenizer.update(tokenizer.auxiliary(emb_BID, target).quantised)


def test_inputs_are_the_values_of_fields_the_time_and_the_pairs() -> None:
    samples = samples_of(60)
    inputs, at = READER.read(samples), 0
    assert inputs.sizes_BI.shape == (60, NUM_INPUTS)
    for b in range(60):
        of = [inputs.buckets_N[at : (at := at + size)].tolist() for size in inputs.sizes_BI[b]]
        row, ts = samples.rows_B[b], int(samples.rows_B["ts"][b])
        genres = samples.keys_M[samples.key_bounds[b] : samples.key_bounds[b + 1]]
        assert of[0] == [int(row["keys"][0]) % 256]
        assert len(of[1]) == (0 if np.isnan(row["numbers"][0]) else 1)
        assert of[3] == [int(key) % 256 for key in genres]
        assert len(of[4]) == int(row["keys"][2] != 0)
        assert of[5] == [value_key("\0hour", str(ts // 3_600_000 % 24)) % 256]
        assert of[6] == [value_key("\0weekday", str(ts // 86_400_000 % 7)) % 256]
        assert len(of[7]) == len(genres)
    for size in np.unique(inputs.sizes_BI):
        of_N = np.repeat(inputs.sizes_BI.ravel() == size, inputs.sizes_BI.ravel())
        np.testing.assert_allclose(inputs.weights_N[of_N], 1 / size if size else 0)
    for got, wanted in zip(inputs.take(np.arange(60) < 20), READER.read(samples.slice(0, 20)), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_slot_is_a_linear_map_of_the_means_of_its_inputs() -> None:
    tokenizer, inputs = made(), READER.read(samples_of(20))
    table, weight = tokenizer.table_RD.detach().numpy(), tokenizer.weight_TXD.detach().numpy()
    got_BTD, at = tokenizer.vectors(tokenizer.embed(inputs)).detach(), 0
    for b in range(20):
        means = []
        for size in inputs.sizes_BI[b]:
            rows = table[inputs.buckets_N[at : at + size]]
            means.append(rows.mean(0) if size else np.zeros(DIM))
            at += size
        for t, slot in enumerate(SLOTS):
            given = np.concatenate([means[i] for i in slot])
            np.testing.assert_allclose(got_BTD[b, t], given @ weight[t, : len(given)], atol=1e-5)


def test_the_loss_is_the_sum_of_its_parts_and_each_reaches_what_it_is_to_move() -> None:
    tokenizer, inputs = made(), READER.read(samples_of(200))
    learned(tokenizer, inputs, 3)
    emb_BID = tokenizer.embed(inputs)
    target = torch.randn(200, len(SLOTS), DIM, requires_grad=True)
    told = tokenizer.auxiliary(emb_BID, target)
    f, e = tokenizer.vectors(emb_BID).detach().numpy(), told.quantised.decoded_BTD.numpy()
    books = tokenizer.codebooks.books_TMVD.numpy()
    p = np.exp(-((told.quantised.residuals_BTMD.numpy()[:, :, :, None] - books) ** 2).sum(-1))
    p = (p / p.sum(-1, keepdims=True)).mean(0)
    entropy = -(p * np.log(p)).sum(-1).mean() / np.log(16)
    vq = 0.25 * ((f - e) ** 2).sum((1, 2)).mean()
    align = ((target.detach().numpy() - e) ** 2).sum((1, 2)).mean()
    assert told.loss.item() == pytest.approx(vq + 0.25 * align - 0.01 * entropy, rel=1e-4)
    told.loss.backward()
    assert target.grad is not None
    np.testing.assert_allclose(target.grad, 0.25 * 2 * (target.detach().numpy() - e) / 200, atol=1e-6)
    assert tokenizer.table_RD.grad is not None
    assert tokenizer.table_RD.grad.any()
    tokenizer.zero_grad()
    again = tokenizer.auxiliary(tokenizer.embed(inputs), target)
    says = tokenizer.says(torch.from_numpy(e).flatten(1)).squeeze(1)
    torch.testing.assert_close(again.logit_B, says)
    again.logit_B.sum().backward()
    assert tokenizer.weight_TXD.grad is not None
    assert tokenizer.weight_TXD.grad.any()


def test_versions_are_frozen_by_samples_and_the_last_two_decode() -> None:
    tokenizer, samples = made(), samples_of(60)
    inputs = READER.read(samples)
    assert tokenizer.frozen() == {}
    learned(tokenizer, inputs)
    assert int(tokenizer.version) == 0
    words, books = [], []
    for version in (1, 2, 3):
        before = int(tokenizer.num_seen)
        while int(tokenizer.version) < version:
            learned(tokenizer, inputs)
        assert int(tokenizer.num_seen) // 100 == version > before // 100
        arrays = {name: array.copy() for name, array in tokenizer.frozen().items()}
        frozen = FrozenTokenizer(arrays_in(save(arrays)), FIELDS, SETTINGS)
        words.append(torch.from_numpy(frozen.words(samples).view(np.int64)))
        books.append(torch.from_numpy(frozen.decode(frozen.codes(samples))))
        with torch.no_grad():
            tokenizer.table_RD.add_(0.1 * torch.randn_like(tokenizer.table_RD))
    for tag, wanted in ((3, books[2]), (2, books[1])):
        got, is_there = tokenizer.decode(words[tag - 1])
        torch.testing.assert_close(got, wanted)
        assert is_there.all()
    older, _ = tokenizer.decode(words[0])
    codes = torch.from_numpy(frozen.codes(samples))
    assert older.shape == (*codes.shape[:2], DIM)
    assert not tokenizer.decode(torch.zeros(3, dtype=torch.int64))[1].any()


def test_what_is_encoded_without_torch_is_what_the_tokenizer_would_say() -> None:
    tokenizer, samples = made(), samples_of(150)
    inputs = READER.read(samples)
    learned(tokenizer, inputs, 8)
    frozen = FrozenTokenizer(tokenizer.frozen(), FIELDS, SETTINGS)
    with torch.no_grad():
        wanted = tokenizer.vectors(tokenizer.embed(inputs))
    books = tokenizer.codebooks.books_TMVD
    tokenizer.codebooks.books_TMVD = tokenizer.frozen_2TMVD[0]
    found = tokenizer.auxiliary(tokenizer.embed(inputs), torch.zeros_like(wanted)).quantised
    tokenizer.codebooks.books_TMVD = books
    got = frozen.codes(samples)
    # Two codes may be equally near.
    assert (got == found.codes_BTM.numpy()).mean() > 0.999
    assert len(np.unique(got)) > 8


def test_slots_of_fewer_inputs_have_zeros() -> None:
    tokenizer = made()
    emb = torch.randn(3, NUM_INPUTS, DIM)
    got = slices_of(emb, tokenizer.index_TS)
    torch.testing.assert_close(got[:, 2], torch.cat([emb[:, 4], torch.zeros(3, DIM)], 1))
    torch.testing.assert_close(got[:, 1], torch.cat([emb[:, 2], emb[:, 3]], 1))


def test_codes_are_packed_and_must_have_room() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 64, (50, 10)).astype(np.uint8)
    words = pack(codes, 6, 15)
    for n in range(10):
        np.testing.assert_array_equal((words >> np.uint64(4 + 6 * n)) & np.uint64(63), codes[:, n])
    assert {int(word) & 15 for word in words} == {15}
    assert [tag_of(version) for version in (15, 16, 31)] == [15, 1, 1]
    with pytest.raises(ValueError, match=r"6 sub-tokens of 2 codes of 6 bits are 72 bits, and at most 60"):
        check_bits(6, 2, 6)


def test_the_first_of_equal_codes_is_taken_however_a_product_rounds() -> None:
    """What is said of a sample must not depend on which others it came with."""
    rng = np.random.default_rng(3)
    for num_codes, dim in ((16, 8), (64, 16), (37, 5)):
        different = rng.normal(size=(num_codes // 2, dim)).astype(np.float32)
        book_VD = np.concatenate([different, different, different[:1]])
        residuals = (different[rng.integers(len(different), size=500)] + 0.01 * rng.normal(size=(500, dim))).astype(
            np.float32
        )
        together = nearest(residuals, book_VD)
        assert together.max() < len(different)
        alone = [int(nearest(residuals[n : n + 1], book_VD)[0]) for n in range(len(residuals))]
        assert together.tolist() == alone
        exact = ((residuals[:, None].astype(np.float64) - different) ** 2).sum(axis=2).argmin(axis=1)
        assert together.tolist() == exact.tolist()
