"""Compile, or load, the kernels before the first sample comes."""

import numpy as np
import torch

from learner.adaf2m2.kernels.copies import with_copies
from learner.adaf2m2.kernels.losses import mean_loss
from learner.adaf2m2.kernels.pooling import pooled
from learner.adaf2m2.kernels.rows import adagrad, distinct
from learner.adaf2m2.kernels.signals import LOG, faded_in, measured, normalised


def warm_up(*, learns: bool) -> None:
    """Run each once on one sample of one field; seconds where nothing is cached.

    Args:
        learns: those of learning, too, there and back.
    """
    rows_UW, ones, nothing = torch.zeros(1, 3, requires_grad=learns), torch.ones(1), torch.zeros(1, dtype=torch.int64)
    # Rows have numbers that are int32 in the table.
    rows_U, _ = distinct(np.zeros(1, np.int32))
    emb_XD, first_X = pooled(rows_UW, nothing, nothing, ones)
    if not learns:
        return
    measured_BM = measured(torch.ones(1, 2), torch.ones(1, 1), np.array([LOG]))
    mean_M, var_M = torch.zeros(3), torch.ones(3)
    faded_in(measured_BM, mean_M, var_M, 0.5)
    signals_BS = normalised(emb_XD, measured_BM, (mean_M, var_M), torch.ones(5), torch.zeros(5))
    weight_BF, keep_KBF = signals_BS.sum(1, keepdim=True), torch.ones(1, 1, 1, dtype=torch.bool)
    all_XFD = with_copies(emb_XD.view(1, 1, 2), weight_BF, emb_XD.view(1, 1, 2), torch.zeros(1, 2), keep_KBF)
    logits_KB = (all_XFD.sum((1, 2)) + first_X).view(2, 1)
    mean_loss(logits_KB[0], logits_KB[1:], (ones, ones, ones, ones)).backward()  # type: ignore[no-untyped-call]
    assert rows_UW.grad is not None
    # A group is a part of wider rows.
    block_RX = np.zeros((2, 6), np.float32)
    adagrad(block_RX[:, :3], block_RX[:, 3:], rows_U, rows_UW.grad.numpy(), np.float32(1.0), np.float32(1.0))
