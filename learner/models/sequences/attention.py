"""Attention with several heads, over entries of which some may not be there (Vaswani et al., 2017, section 3.2).

Legend: B samples, N queries, L entries, D length of a vector.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn


def check_heads(dim: int, num_heads: int) -> None:
    """Whether vectors can be cut into so many heads.

    Raises:
        ValueError: they cannot.
    """
    if dim % num_heads:
        raise ValueError(f"model.history_heads must divide model.dim, {dim}, got {num_heads}")


def attend(q_BND: Tensor, k_BLD: Tensor, v_BLD: Tensor, mask_BL: Tensor | None, num_heads: int) -> Tensor:
    """Scaled dot-product attention, head by head; zeros where there is nothing to attend to.

    Args:
        q_BND: queries.
        k_BLD: keys.
        v_BLD: values.
        mask_BL: bool, whether there is an entry; None: all are there.
        num_heads: a divisor of D.

    Returns:
        (B, N, D).
    """
    B, N, D = q_BND.shape
    q, k, v = (x.view(B, -1, num_heads, D // num_heads).transpose(1, 2) for x in (q_BND, k_BLD, v_BLD))
    if mask_BL is None:
        return nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D)
    # A softmax of nothing is left to no backend: who has no entry attends to all, and is given nothing of it.
    has_any_B1 = mask_BL.any(1, keepdim=True)
    mask = (mask_BL | ~has_any_B1)[:, None, None, :]
    mixed = nnf.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(B, N, D) * has_any_B1.unsqueeze(2)


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

    def forward(self, q_BND: Tensor, k_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        """What the queries attend to."""
        mixed_BND: Tensor = self.out(attend(self.q(q_BND), self.k(k_BLD), self.v(k_BLD), mask_BL, self.num_heads))
        return mixed_BND
