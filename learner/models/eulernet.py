"""EulerNet (Tian et al., SIGIR 2023, arXiv 2304.10711): crosses of learned orders, as sums in complex space.

Shape letters besides those of `learner.adaf2m2.model`: I vectors that a layer takes (at first the fields), O orders.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.models.interaction import Interaction

_LEAST = 1e-8
"""Added to a squared modulus, whose logarithm is taken."""


class EulerLayer(nn.Module):
    """One Euler interaction layer (section 3.2): explicit crosses of learned orders plus an implicit linear layer.

    Of complex vectors r_j + i p_j, with modulus lambda_j and phase theta_j, order k makes

        psi_k = sum_j alpha_kj theta_j + delta_k        l_k = exp(sum_j alpha_kj ln lambda_j + delta'_k)
        o_k   = l_k cos psi_k + ReLU(W_k r + b_k) + i (l_k sin psi_k + ReLU(W_k p + b_k))

    r and p in the second line are of all vectors, side by side; W and b are shared by real and imaginary part. Then
    each part is normalised over its D elements, if at all: LayerNorm, which the paper names beside BatchNorm.

    Args:
        num_inputs: I.
        num_orders: O.
        dim: D.
        layer_norm: whether to normalise.
        dropout: on what both halves take.

    Shape:
        r_BID, p_BID -> (B, O, D) each

    >>> layer = EulerLayer(3, 2, 4, layer_norm=True)
    >>> [part.shape for part in layer(torch.randn(5, 3, 4), torch.randn(5, 3, 4))]
    [torch.Size([5, 2, 4]), torch.Size([5, 2, 4])]
    """

    def __init__(self, num_inputs: int, num_orders: int, dim: int, *, layer_norm: bool, dropout: float = 0.0) -> None:
        super().__init__()
        # As its authors' code begins: each order is one vector by itself, all of them if there are as many.
        same = num_inputs == num_orders
        chosen = torch.eye(num_inputs) if same else torch.softmax(torch.randn(num_inputs, num_orders) / 0.01, dim=0)
        self.orders_IO = nn.Parameter(chosen)
        self.modulus_bias_OD = nn.Parameter(torch.randn(num_orders, dim) * 0.01)
        self.phase_bias_OD = nn.Parameter(torch.randn(num_orders, dim) * 0.01)
        self.implicit = nn.Linear(num_inputs * dim, num_orders * dim)
        nn.init.xavier_uniform_(self.implicit.weight)
        self.normalise_r = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.normalise_p = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self._shape = num_orders, dim

    def _orders(self, parts_BID: Tensor, bias_OD: Tensor) -> Tensor:
        return torch.einsum("bid,io->bod", self.dropout(parts_BID), self.orders_IO) + bias_OD

    def _implicit(self, part_BID: Tensor) -> Tensor:
        flat_BX = torch.relu(self.implicit(self.dropout(part_BID).flatten(1)))
        return flat_BX.view(-1, *self._shape)

    def forward(self, r_BID: Tensor, p_BID: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of each order."""
        log_modulus_BID = 0.5 * (r_BID.square() + p_BID.square() + _LEAST).log()
        modulus_BOD = self._orders(log_modulus_BID, self.modulus_bias_OD).exp()
        phase_BOD = self._orders(torch.atan2(p_BID, r_BID), self.phase_bias_OD)
        r_BOD = modulus_BOD * torch.cos(phase_BOD) + self._implicit(r_BID)
        p_BOD = modulus_BOD * torch.sin(phase_BOD) + self._implicit(p_BID)
        return self.normalise_r(r_BOD), self.normalise_p(p_BOD)


class EulerNet(Interaction):
    """Embeddings as phases, r_j + i p_j = mu_j (cos v_j + i sin v_j), then Euler layers, then w^T r + w^T p + b.

    The modulus mu_j is learned per field. w is the same for real and imaginary part (section 3.3).

    Args:
        num_fields: F.
        dim: D.
        orders: O of each layer.
        layer_norm: behind each layer.
        dropout: before each.

    Shape:
        emb_BFD -> logit_B

    >>> EulerNet(3, 4, orders=(3, 2))(torch.randn(5, 3, 4)).shape
    torch.Size([5])
    """

    def __init__(
        self, num_fields: int, dim: int, *, orders: Sequence[int], layer_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.modulus_F1 = nn.Parameter(torch.ones(num_fields, 1))
        inputs = (num_fields, *orders[:-1])
        self.layers = nn.ModuleList(
            EulerLayer(num_inputs, num_orders, dim, layer_norm=layer_norm, dropout=dropout)
            for num_inputs, num_orders in zip(inputs, orders, strict=True)
        )
        self.head = nn.Linear(orders[-1] * dim, 1)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        r_BID, p_BID = self.modulus_F1 * torch.cos(emb_BFD), self.modulus_F1 * torch.sin(emb_BFD)
        for layer in self.layers:
            r_BID, p_BID = layer(r_BID, p_BID)
        logit_B1: Tensor = self.head(r_BID.flatten(1)) + self.head(p_BID.flatten(1))
        return logit_B1.squeeze(1)
