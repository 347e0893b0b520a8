"""The adapter's signals in one pass in each direction: measured ones standardised, ids beside them, all normalised.

Legend: B samples, E of the ids' embeddings, M measured signals, S = E + M.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.kernels.arrays import arrays_of
from learner.tables.compiled import compiled

EPSILON = 1e-5
"""Of both variances."""


LOG, SQRT, SQUARE, RAW = range(4)
"""How a norm enters."""
NORM_MIN, NORM_MAX = 1e-6, 1e3


def measured(norms_B2: Tensor, counts_BC: Tensor, kinds_K: np.ndarray) -> Tensor:
    """Norms, each as it enters, and log(1 + count), side by side, shape (B, 2 K + C).

    Args:
        norms_B2: on a CPU, float32, as `counts_BC`.
        counts_BC: without any, C is 0.
        kinds_K: how norms enter, `LOG`, ..; int64.
    """
    found_BM = norms_B2.new_empty(len(norms_B2), 2 * len(kinds_K) + counts_BC.shape[1])
    norms, counts, found = arrays_of(norms_B2, counts_BC, found_BM)
    _measure(norms, counts, kinds_K, found)
    return found_BM


def faded_in(x_BM: Tensor, mean_M: Tensor, var_M: Tensor, keep: float) -> None:
    """Change running means and variances, which keep the share `keep`, by those of a batch."""
    x, mean, var = arrays_of(x_BM, mean_M, var_M)
    _fade_in(x, mean, var, np.float32(keep))


def normalised(
    id_BE: Tensor, measured_BM: Tensor, standard_2M: tuple[Tensor, Tensor], scale_S: Tensor, shift_S: Tensor
) -> Tensor:
    """LayerNorm([id, (measured - mean) / std]), shape (B, S).

    Args:
        id_BE: on a CPU, float32, as all of them.
        measured_BM: has no gradient.
        standard_2M: mean and variance of each measured signal.
        scale_S: of the LayerNorm.
        shift_S: of the LayerNorm.
    """
    found: Tensor = _Normalised.apply(id_BE, measured_BM, *standard_2M, scale_S, shift_S)  # type: ignore[no-untyped-call]
    return found


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, id_BE: Tensor, measured_BM: Tensor, mean_M: Tensor, var_M: Tensor, scale_S: Tensor, shift_S: Tensor
    ) -> Tensor:
        x_BS, std_B = id_BE.new_empty(len(id_BE), len(scale_S)), id_BE.new_empty(len(id_BE))
        found_BS = torch.empty_like(x_BS)
        _normalise(*arrays_of(id_BE, measured_BM, mean_M, var_M, scale_S, shift_S, x_BS, std_B, found_BS))
        ctx.save_for_backward(scale_S, x_BS, std_B)
        ctx.num_ids = id_BE.shape[1]
        return found_BS

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_BS: Tensor) -> tuple[Tensor | None, ...]:
        scale_S, x_BS, std_B = ctx.saved_tensors
        of_id_BE = x_BS.new_empty(len(x_BS), ctx.num_ids)
        of_scale_S, of_shift_S = torch.zeros_like(scale_S), torch.zeros_like(scale_S)
        _give_back(*arrays_of(grad_BS, scale_S, x_BS, std_B, of_id_BE, of_scale_S, of_shift_S))
        return of_id_BE, None, None, None, of_scale_S, of_shift_S


@compiled
def _measure(norms_B2: np.ndarray, counts_BC: np.ndarray, kinds_K: np.ndarray, found_BM: np.ndarray) -> None:
    num_norms = 2 * len(kinds_K)
    for b in range(len(norms_B2)):
        for k in range(len(kinds_K)):
            for n in range(2):
                norm = min(max(norms_B2[b, n], np.float32(NORM_MIN)), np.float32(NORM_MAX))
                if kinds_K[k] == LOG:
                    norm = np.log(norm)
                elif kinds_K[k] == SQRT:
                    norm = np.sqrt(norm)
                elif kinds_K[k] == SQUARE:
                    norm *= norm
                found_BM[b, 2 * k + n] = norm
        for c in range(counts_BC.shape[1]):
            found_BM[b, num_norms + c] = np.log1p(counts_BC[b, c])


@compiled
def _fade_in(x_BM: np.ndarray, mean_M: np.ndarray, var_M: np.ndarray, keep: np.float32) -> None:
    num_samples, rest = np.float32(len(x_BM)), np.float32(1.0) - keep
    for m in range(len(mean_M)):
        mean = var = np.float32(0.0)
        for b in range(len(x_BM)):
            mean += x_BM[b, m]
        mean /= num_samples
        for b in range(len(x_BM)):
            var += (x_BM[b, m] - mean) * (x_BM[b, m] - mean)
        shift = mean - mean_M[m]
        var_M[m] = keep * var_M[m] + rest * (var / num_samples + keep * shift * shift)
        mean_M[m] += rest * shift


@compiled
def _normalise(
    id_BE: np.ndarray,
    measured_BM: np.ndarray,
    mean_M: np.ndarray,
    var_M: np.ndarray,
    scale_S: np.ndarray,
    shift_S: np.ndarray,
    x_BS: np.ndarray,
    std_B: np.ndarray,
    found_BS: np.ndarray,
) -> None:
    """`x_BS`: normalised, before scale and shift; `std_B`: what it was divided by."""
    num_ids, num_signals = id_BE.shape[1], len(scale_S)
    for b in range(len(id_BE)):
        x_S, found_S = x_BS[b], found_BS[b]
        for e in range(num_ids):
            x_S[e] = id_BE[b, e]
        for m in range(len(mean_M)):
            x_S[num_ids + m] = (measured_BM[b, m] - mean_M[m]) / np.sqrt(var_M[m] + np.float32(EPSILON))
        mean = np.float32(0.0)
        for s in range(num_signals):
            mean += x_S[s]
        mean /= np.float32(num_signals)
        var = np.float32(0.0)
        for s in range(num_signals):
            var += (x_S[s] - mean) * (x_S[s] - mean)
        std_B[b] = np.sqrt(var / np.float32(num_signals) + np.float32(EPSILON))
        per = np.float32(1.0) / std_B[b]
        for s in range(num_signals):
            x_S[s] = (x_S[s] - mean) * per
            found_S[s] = x_S[s] * scale_S[s] + shift_S[s]


@compiled
def _give_back(
    grad_BS: np.ndarray,
    scale_S: np.ndarray,
    x_BS: np.ndarray,
    std_B: np.ndarray,
    of_id_BE: np.ndarray,
    of_scale_S: np.ndarray,
    of_shift_S: np.ndarray,
) -> None:
    num_ids, num_signals = of_id_BE.shape[1], len(scale_S)
    for b in range(len(grad_BS)):
        grad_S, x_S = grad_BS[b], x_BS[b]
        total = along = np.float32(0.0)
        for s in range(num_signals):
            of_x = grad_S[s] * scale_S[s]
            total += of_x
            along += of_x * x_S[s]
            of_scale_S[s] += grad_S[s] * x_S[s]
            of_shift_S[s] += grad_S[s]
        total /= np.float32(num_signals)
        along /= np.float32(num_signals)
        per = np.float32(1.0) / std_B[b]
        for e in range(num_ids):
            of_id_BE[b, e] = (grad_S[e] * scale_S[e] - total - x_S[e] * along) * per
