"""SIF-Mixer: attention over the sub-tokens of each sample, then over the samples at each sub-token.

Block of SIF (arXiv 2604.15650), each part added to what it took, normalised before: (i) attention with several heads
across the T sub-tokens inside each sample; (ii) the same across the L + 1 samples at each position; (iii) a
feed-forward layer of width 4 D. Sample 0 is the target, and the only one that is asked of the last block: there, (ii)
has one query, and (iii) one sample.

What the paper compares it with (`model.sif.mixing`): `flat`, in whose blocks every sub-token of every sample attends to
all others at once, instead of (i) and (ii); `pooled`, where a sample's sub-tokens are averaged before the first block.

Legend: B samples asked for, R rows (the target and what lies before it), T sub-tokens, D length of a vector.
"""

import torch
from torch import Tensor, nn

from learner.config import Mixing
from learner.models.sequences.attention import Attention


class _Block(nn.Module):
    """What both kinds of blocks end in: (iii), x + W_2 relu(W_1 LN(x))."""

    def _end_in_feed_forward(self, dim: int) -> None:
        self.norm_3 = nn.LayerNorm(dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def feed(self, x_BQTD: Tensor) -> Tensor:
        """(iii)."""
        mixed_BQTD: Tensor = x_BQTD + self.narrow(torch.relu(self.wide(self.norm_3(x_BQTD))))
        return mixed_BQTD


class MixerBlock(_Block):
    """One block.

    Args:
        dim: D.
        num_heads: a divisor of D.

    Shape:
        x_BRTD, mask_BR -> (B, R, T, D); (B, 1, T, D) of the last one
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.tokens, self.samples = Attention(dim, num_heads), Attention(dim, num_heads)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self._end_in_feed_forward(dim)

    def forward(self, x_BRTD: Tensor, mask_BR: Tensor, *, is_last: bool) -> Tensor:
        """The rows after the block; of the last one, the target alone."""
        B, R, T, D = x_BRTD.shape
        rows_NTD = self.norm_1(x_BRTD).flatten(0, 1)
        x_BRTD = x_BRTD + self.tokens(rows_NTD, rows_NTD, None).view(B, R, T, D)
        columns_NRD = self.norm_2(x_BRTD).transpose(1, 2).flatten(0, 1)
        num_asked = 1 if is_last else R
        mixed_NQD = self.samples(columns_NRD[:, :num_asked], columns_NRD, mask_BR.repeat_interleave(T, 0))
        return self.feed(x_BRTD[:, :num_asked] + mixed_NQD.view(B, T, num_asked, D).transpose(1, 2))


class FlatBlock(_Block):
    """One block of flat attention; arguments and shapes as of `MixerBlock`."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.all, self.norm_1 = Attention(dim, num_heads), nn.LayerNorm(dim)
        self._end_in_feed_forward(dim)

    def forward(self, x_BRTD: Tensor, mask_BR: Tensor, *, is_last: bool) -> Tensor:
        """The rows after the block; of the last one, the target alone."""
        B, R, T, D = x_BRTD.shape
        flat_BND = self.norm_1(x_BRTD).flatten(1, 2)
        num_asked = 1 if is_last else R
        mixed_BND = self.all(flat_BND[:, : num_asked * T], flat_BND, mask_BR.repeat_interleave(T, 1))
        return self.feed(x_BRTD[:, :num_asked] + mixed_BND.view(B, num_asked, T, D))


class Mixer(nn.Module):
    """N blocks, and a norm behind them.

    Args:
        dim: D.
        num_blocks: N.
        num_heads: a divisor of D.
        mixing: how sub-tokens are mixed.

    Shape:
        x_BRTD, mask_BR (bool: whether there is a row; the first always is) -> the target's sub-tokens, (B, T, D);
        (B, 1, D) of pooled ones
    """

    def __init__(self, dim: int, num_blocks: int, num_heads: int, mixing: Mixing = "factorised") -> None:
        super().__init__()
        self._pools = mixing == "pooled"
        block = FlatBlock if mixing == "flat" else MixerBlock
        self.blocks = nn.ModuleList(block(dim, num_heads) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BRTD: Tensor, mask_BR: Tensor) -> Tensor:
        """The target's sub-tokens."""
        if self._pools:
            x_BRTD = x_BRTD.mean(2, keepdim=True)
        last = len(self.blocks) - 1
        for n, block in enumerate(self.blocks):
            x_BRTD = block(x_BRTD, mask_BR, is_last=n == last)
        target_BTD: Tensor = self.norm(x_BRTD[:, 0])
        return target_BTD
