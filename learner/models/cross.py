"""Cross layers of DCN-V2 (Wang et al., WWW 2021): x_{l+1} = x_0 * W(x_l) + x_l, with W of full or of low rank."""

import torch
from torch import Tensor, nn


class LowRankExperts(nn.Module):
    """W(x) = sum_i G_i(x) U_i g(C_i g(V_i^T x)) + b (section 3.5, eq. 3 and 4), g = tanh, G = softmax.

    One expert is eq. 2, W(x) = U (V^T x) + b: no gate, and nothing between the two matrices. The bias is shared by the
    experts, as in the paper, so it stands outside their mixture, whose gates sum to 1.

    Args:
        width: F D.
        rank: r.
        num_experts: K.

    Shape:
        x_BW -> (B, W)

    >>> LowRankExperts(6, 2, 3)(torch.ones(5, 6)).shape
    torch.Size([5, 6])
    """

    def __init__(self, width: int, rank: int, num_experts: int) -> None:
        super().__init__()
        self.down_KWR = nn.Parameter(torch.empty(num_experts, width, rank))
        self.up_KRW = nn.Parameter(torch.empty(num_experts, rank, width))
        self.bias_W = nn.Parameter(torch.zeros(width))
        self.middle_KRR = nn.Parameter(torch.empty(num_experts, rank, rank)) if num_experts > 1 else None
        self.gate = nn.Linear(width, num_experts, bias=False) if num_experts > 1 else None
        for weight in (self.down_KWR, self.up_KRW, self.middle_KRR):
            if weight is not None:
                for of_expert in weight:
                    nn.init.xavier_normal_(of_expert)

    def forward(self, x_BW: Tensor) -> Tensor:
        """W(x)."""
        low_KBR = x_BW @ self.down_KWR
        if self.gate is None or self.middle_KRR is None:
            return (low_KBR @ self.up_KRW)[0] + self.bias_W
        low_KBR = torch.tanh(torch.tanh(low_KBR) @ self.middle_KRR)
        gate_BK = torch.softmax(self.gate(x_BW), dim=1)
        return torch.einsum("kbr,krw,bk->bw", low_KBR, self.up_KRW, gate_BK) + self.bias_W


class CrossNetwork(nn.ModuleList):
    """Explicit crosses: L layers make polynomials of degree L + 1 at most.

    Args:
        width: F D.
        num_layers: L.
        rank: of each layer's matrix; 0: full (eq. 1).
        num_experts: with a rank, how many low-rank matrices are mixed.

    Shape:
        x_BW -> (B, W)

    >>> CrossNetwork(6, 2)(torch.ones(5, 6)).shape
    torch.Size([5, 6])
    """

    def __init__(self, width: int, num_layers: int, rank: int = 0, num_experts: int = 1) -> None:
        super().__init__(
            LowRankExperts(width, rank, num_experts) if rank else nn.Linear(width, width) for _ in range(num_layers)
        )

    def forward(self, x_BW: Tensor) -> Tensor:
        """x_L."""
        x0_BW = x_BW
        for layer in self:
            x_BW = torch.addcmul(x_BW, x0_BW, layer(x_BW))
        return x_BW
