"""Attention with several heads, over entries of which some may not be there (Vaswani et al., 2017, section 3.2).

Legend: B samples, N queries, L entries, D length of a vector.
"""

import math

import torch.nn.functional as nnf
from torch import Tensor, nn


def check_heads(dim: int, num_heads: int) -> None:
    """Whether vectors can be cut into so many heads.

    Raises:
        ValueError: they cannot.
    """
    if dim % num_heads:
        raise ValueError(f"model.history_heads must divide model.dim, {dim}, got {num_heads}")


def attend(q_BND: Tensor, k_BLD: Tensor, v_BLD: Tensor, mask_BL: Tensor, num_heads: int) -> Tensor:
    """Scaled dot-product attention, head by head; zeros where there is nothing to attend to.

    Returns:
        (B, N, D).
    """
    B, N, D = q_BND.shape
    q, k, v = (x.view(B, -1, num_heads, D // num_heads).transpose(1, 2) for x in (q_BND, k_BLD, v_BLD))
    scores = q @ k.transpose(-1, -2) / math.sqrt(D // num_heads)
    mask = mask_BL[:, None, None, :]
    # A row without any entry would be a softmax of nothing.
    weights = nnf.softmax(scores.masked_fill(~mask, -1e9), dim=-1) * mask
    mixed: Tensor = (weights @ v).transpose(1, 2).reshape(B, N, D)
    return mixed


class Attention(nn.Module):
    """Attention with several heads and its four maps.

    Args:
        dim: D.
        num_heads: a divisor of D.

    Shape:
        q_BND, k_BLD, mask_BL -> (B, N, D)
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, q_BND: Tensor, k_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """What the queries attend to."""
        mixed_BND: Tensor = self.out(attend(self.q(q_BND), self.k(k_BLD), self.v(k_BLD), mask_BL, self.num_heads))
        return mixed_BND
