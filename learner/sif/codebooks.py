"""Residual vector quantisation, one row of codebooks per slot (SIF's HGAQ).

r^1 = f~, q_m = argmin_v |r^m - c_v|, r^(m+1) = r^m - c_(q_m); a sample decodes to e = sum_m c_(q_m). Codebooks are
moving averages of what is nearest to them (van den Oord et al. 2017, appendix A.1), and codes that nothing is near to
begin anew with what there is.

Legend: B samples, T slots, M levels, V codes, D length of a vector.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learner.sif.frozen import TIE


class Quantised(NamedTuple):
    """Of B samples."""

    codes_BTM: Tensor
    """int64."""
    decoded_BTD: Tensor
    """e."""
    residuals_BTMD: Tensor
    """r^m, that code m was chosen for."""


class Usage(NamedTuple):
    """How codes are used, by moving averages."""

    perplexity_TM: Tensor
    """exp of the entropy: V, if all codes are used alike."""
    dead_TM: Tensor
    """Share of the codes that have less than a hundredth of an equal share."""


def quantise(vectors_BTD: Tensor, books_TMVD: Tensor) -> Quantised:
    """The nearest codes, level by level; the first one of those that are equally near (`TIE`)."""
    residual_BTD, codes, residuals = vectors_BTD, [], []
    slots = torch.arange(vectors_BTD.shape[1], device=vectors_BTD.device)
    for m in range(books_TMVD.shape[1]):
        book_TVD = books_TMVD[:, m]
        # |r|^2 is the same for all of them.
        squares_TV = (book_TVD * book_TVD).sum(-1)
        far_BTV = squares_TV - 2 * torch.einsum("btd,tvd->btv", residual_BTD, book_TVD)
        slack_BT = TIE * ((residual_BTD * residual_BTD).sum(-1) + squares_TV.amax(-1))
        code_BT = (far_BTV <= (far_BTV.amin(-1) + slack_BT).unsqueeze(-1)).int().argmax(-1)
        codes.append(code_BT)
        residuals.append(residual_BTD)
        residual_BTD = residual_BTD - book_TVD[slots, code_BT]
    return Quantised(torch.stack(codes, -1), vectors_BTD - residual_BTD, torch.stack(residuals, 2))


def decode(codes_XTM: Tensor, books_TMVD: Tensor) -> Tensor:
    """e of codes, shape (..., T, D)."""
    num_slots, num_levels = books_TMVD.shape[:2]
    slots, levels = (torch.arange(num, device=codes_XTM.device) for num in (num_slots, num_levels))
    decoded_XTD: Tensor = books_TMVD[slots[:, None], levels, codes_XTM].sum(-2)
    return decoded_XTD


class Codebooks(nn.Module):
    """The codebooks of T slots, and their moving averages.

    Args:
        shape: T, M, V, D.
        decay: of the averages, per micro-batch.
        restart: micro-batches after which a code that is not used begins anew.
    """

    books_TMVD: Tensor
    counts_TMV: Tensor
    sums_TMVD: Tensor
    unused_TMV: Tensor
    num_steps: Tensor

    def __init__(self, shape: tuple[int, int, int, int], decay: float, restart: int) -> None:
        super().__init__()
        self._decay, self._restart = decay, restart
        self.register_buffer("books_TMVD", torch.zeros(shape))
        self.register_buffer("counts_TMV", torch.zeros(shape[:3]))
        self.register_buffer("sums_TMVD", torch.zeros(shape))
        # So that the first micro-batch fills the books.
        self.register_buffer("unused_TMV", torch.full(shape[:3], restart))
        self.register_buffer("num_steps", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def update(self, found: Quantised) -> None:
        """Move each code to the average of the residuals that chose it.

        N_v <- decay N_v + (1 - decay) n_v, m_v <- decay m_v + (1 - decay) sum r, c_v = m_v / N_v.
        """
        num_codes, dim = self.books_TMVD.shape[2:]
        index_TMB = found.codes_BTM.permute(1, 2, 0)
        residuals_TMBD = found.residuals_BTMD.detach().permute(1, 2, 0, 3)
        n_TMV = torch.zeros_like(self.counts_TMV).scatter_add_(2, index_TMB, torch.ones_like(residuals_TMBD[..., 0]))
        sums_TMVD = torch.zeros_like(self.books_TMVD)
        sums_TMVD.scatter_add_(2, index_TMB.unsqueeze(-1).expand(*index_TMB.shape, dim), residuals_TMBD)
        self.counts_TMV.mul_(self._decay).add_((1 - self._decay) * n_TMV)
        self.sums_TMVD.mul_(self._decay).add_((1 - self._decay) * sums_TMVD)
        is_used_TMV = self.counts_TMV > torch.finfo(torch.float32).tiny
        means_TMVD = self.sums_TMVD / self.counts_TMV.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)
        self.books_TMVD.copy_(torch.where(is_used_TMV.unsqueeze(-1), means_TMVD, self.books_TMVD))
        self.unused_TMV.add_(1).masked_fill_(n_TMV > 0, 0)
        self._begin_anew(residuals_TMBD, num_codes)
        self.num_steps += 1

    def _begin_anew(self, residuals_TMBD: Tensor, num_codes: int) -> None:
        """Give codes that have not been used for long the residual of a sample, as if one such came at a time."""
        slot_N, level_N, code_N = (self.unused_TMV >= self._restart).nonzero(as_tuple=True)
        if not len(code_N):
            return
        # Drawn by the step, as a generator would be one more thing that a checkpoint has to keep.
        drawn_N = (int(self.num_steps) * num_codes + code_N) * 2_654_435_761 >> 7
        begun_ND = residuals_TMBD[slot_N, level_N, drawn_N % residuals_TMBD.shape[2]]
        self.books_TMVD[slot_N, level_N, code_N] = begun_ND
        self.counts_TMV[slot_N, level_N, code_N] = 1 - self._decay
        self.sums_TMVD[slot_N, level_N, code_N] = (1 - self._decay) * begun_ND
        self.unused_TMV[slot_N, level_N, code_N] = 0

    def usage(self) -> Usage:
        """How the codes are used."""
        share_TMV = self.counts_TMV / self.counts_TMV.sum(-1, keepdim=True).clamp(min=1e-12)
        dead_TM = (share_TMV < 0.01 / share_TMV.shape[-1]).float().mean(-1)
        return Usage(torch.special.entr(share_TMV).sum(-1).exp(), dead_TM)


def usage_entropy(residuals_BTMD: Tensor, books_TMVD: Tensor) -> Tensor:
    """Mean entropy of the codes' usage as a share of log V, by soft assignment, so that vectors learn to spread.

    p_v = mean over B of softmax(-|r - c_v|^2); H = -sum p log p.
    """
    far_BTMV = (books_TMVD * books_TMVD).sum(-1) - 2 * torch.einsum("btmd,tmvd->btmv", residuals_BTMD, books_TMVD)
    share_TMV = torch.softmax(-far_BTMV, dim=-1).mean(0)
    entropy: Tensor = torch.special.entr(share_TMV).sum(-1).mean() / math.log(max(books_TMVD.shape[2], 2))
    return entropy
