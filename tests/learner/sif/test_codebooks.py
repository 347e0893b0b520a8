"""Residual quantisation against its equations in NumPy; codes that nothing is near to begin anew."""

import numpy as np
import pytest
import torch

from learner.sif.codebooks import Codebooks, decode, quantise, usage_entropy

T, M, V, D = 3, 2, 8, 4
DECAY, RESTART = 0.9, 5


def vectors(num_samples: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_samples, T, D, generator=torch.Generator().manual_seed(seed))


def by_hand(vectors_BTD: np.ndarray, books_TMVD: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r^1 = f~, q_m = argmin |r^m - c_v|, r^(m+1) = r^m - c_(q_m); e = sum_m c_(q_m)."""
    codes = np.zeros((len(vectors_BTD), T, M), int)
    residuals, decoded = np.zeros((len(vectors_BTD), T, M, D)), np.zeros_like(vectors_BTD)
    for b in range(len(vectors_BTD)):
        for t in range(T):
            r = vectors_BTD[b, t].copy()
            for m in range(M):
                q = np.linalg.norm(r - books_TMVD[t, m], axis=1).argmin()
                codes[b, t, m], residuals[b, t, m] = q, r
                decoded[b, t] += books_TMVD[t, m, q]
                r = r - books_TMVD[t, m, q]
    return codes, residuals, decoded


def test_the_nearest_codes_are_taken_level_by_level() -> None:
    books_TMVD = torch.randn(T, M, V, D, generator=torch.Generator().manual_seed(2))
    found = quantise(vectors(), books_TMVD)
    codes, residuals, decoded = by_hand(vectors().double().numpy(), books_TMVD.double().numpy())
    np.testing.assert_array_equal(found.codes_BTM, codes)
    np.testing.assert_allclose(found.residuals_BTMD, residuals, atol=1e-5)
    np.testing.assert_allclose(found.decoded_BTD, decoded, atol=1e-5)
    torch.testing.assert_close(decode(found.codes_BTM, books_TMVD), found.decoded_BTD)


def test_codes_move_to_the_average_of_what_chose_them() -> None:
    books = Codebooks((T, M, V, D), DECAY, 10**6)
    books.books_TMVD.copy_(torch.randn(T, M, V, D, generator=torch.Generator().manual_seed(2)))
    books.unused_TMV.zero_()
    expected = books.books_TMVD.double().numpy().copy()
    counts, sums = np.zeros((T, M, V)), np.zeros((T, M, V, D))
    for step in range(4):
        given = vectors(seed=step)
        codes, residuals, _ = by_hand(given.double().numpy(), expected)
        books.update(quantise(given, books.books_TMVD))
        for t, m, v in np.ndindex(T, M, V):
            chosen = residuals[:, t, m][codes[:, t, m] == v]
            counts[t, m, v] = DECAY * counts[t, m, v] + (1 - DECAY) * len(chosen)
            sums[t, m, v] = DECAY * sums[t, m, v] + (1 - DECAY) * chosen.sum(0)
            if counts[t, m, v]:
                expected[t, m, v] = sums[t, m, v] / counts[t, m, v]
        np.testing.assert_allclose(books.books_TMVD, expected, atol=1e-4)


def test_a_code_that_is_not_used_begins_anew_with_what_there_is() -> None:
    books = Codebooks((T, M, V, D), DECAY, RESTART)
    books.unused_TMV.zero_()
    books.books_TMVD.copy_(torch.randn(T, M, V, D))
    books.books_TMVD[1, 0, 3] = 1e3
    given = vectors(200)
    for _ in range(RESTART - 1):
        books.update(quantise(given, books.books_TMVD))
        assert (books.books_TMVD[1, 0, 3] == 1e3).all()
    found = quantise(given, books.books_TMVD)
    books.update(found)
    begun = books.books_TMVD[1, 0, 3]
    assert (found.residuals_BTMD[:, 1, 0] == begun).all(-1).any()
    assert (quantise(given, books.books_TMVD).codes_BTM[:, 1, 0] == 3).any()


def test_the_first_batch_fills_the_books_and_all_codes_come_into_use() -> None:
    books = Codebooks((T, M, V, D), DECAY, RESTART)
    for step in range(30):
        books.update(quantise(vectors(200, step), books.books_TMVD))
    usage = books.usage()
    assert (usage.dead_TM == 0).all()
    assert (usage.perplexity_TM > 0.7 * V).all()
    found = quantise(vectors(200, 99), books.books_TMVD)
    assert (vectors(200, 99) - found.decoded_BTD).square().mean() < 0.4


def test_usage_is_told_by_its_entropy() -> None:
    books = Codebooks((1, 1, 4, D), DECAY, RESTART)
    books.counts_TMV.copy_(torch.tensor([[[3.0, 1.0, 0.0, 0.0]]]))
    p = np.array([0.75, 0.25])
    assert books.usage().perplexity_TM.item() == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert books.usage().dead_TM.item() == 0.5


def test_the_entropy_of_usage_is_that_of_soft_choices() -> None:
    books_TMVD = torch.randn(T, M, V, D, generator=torch.Generator().manual_seed(2))
    residuals = quantise(vectors(), books_TMVD).residuals_BTMD.requires_grad_()
    r, c = residuals.detach().double().numpy(), books_TMVD.double().numpy()
    far = ((r[:, :, :, None] - c) ** 2).sum(-1)
    soft = np.exp(-far) / np.exp(-far).sum(-1, keepdims=True)
    p = soft.mean(0)
    got = usage_entropy(residuals, books_TMVD)
    assert got.item() == pytest.approx((-(p * np.log(p)).sum(-1)).mean() / np.log(V), rel=1e-4)
    got.backward()
    assert residuals.grad is not None
    assert residuals.grad.any()
