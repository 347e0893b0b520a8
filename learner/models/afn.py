"""Adaptive factorisation network (Cheng, Shen & Huang, AAAI 2020): crosses whose orders are learned."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.models.interaction import Interaction
from learner.models.mlp import perceptron

_LEAST = 1e-5
"""Embeddings are made positive: absolute values, no less than this (paper 1e-7, its code 1e-4, FuxiCTR 1e-5)."""
_MOST = 20.0
"""The exponential's argument, at most: far beyond what learning reaches, and what keeps a float a number."""


class LogarithmicNeurons(nn.Module):
    """y_j = exp(sum_i w_ij ln v_i + b_j), which is v_1^w_1j * .. * v_n^w_nj element by element.

    The paper's logarithmic transformation layer. It normalises ln v and y over the batch (BatchNorm). Here a batch has
    weighted samples and their masked copies, whose statistics must not mix, so both are normalised within each sample
    (LayerNorm over fields and elements). What that costs: a factor that all fields have in common is taken out, so of
    the adapter's weights only what differs between fields is seen.

    Args:
        num_fields: F.
        dim: D.
        num_neurons: J.
        layer_norm: whether to normalise at all.

    Shape:
        emb_BFD -> (B, J, D)

    >>> LogarithmicNeurons(3, 4, 6, layer_norm=True)(torch.randn(5, 3, 4)).shape
    torch.Size([5, 6, 4])
    """

    def __init__(self, num_fields: int, dim: int, num_neurons: int, *, layer_norm: bool) -> None:
        super().__init__()
        self.neurons = nn.Linear(num_fields, num_neurons)
        self.before = nn.LayerNorm((num_fields, dim)) if layer_norm else nn.Identity()
        self.behind = nn.LayerNorm((num_neurons, dim)) if layer_norm else nn.Identity()

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Crosses."""
        log_BFD = self.before(emb_BFD.abs().clamp(min=_LEAST).log())
        power_BDJ: Tensor = self.neurons(log_BFD.transpose(1, 2))
        crosses_BJD: Tensor = self.behind(power_BDJ.clamp(max=_MOST).exp().transpose(1, 2))
        return crosses_BJD


class AFN(Interaction):
    """Logarithmic neurons, hidden layers on all their crosses, one linear output; as AFN+ beside a DNN.

    AFN+ is y = w_1 y_AFN + w_2 y_DNN + b. In the paper each half has embeddings of its own, and its code trains the
    halves by losses of their own; here both read the same embeddings, as a table has one per id, and have one loss.

    Args:
        num_fields: F.
        dim: D.
        num_neurons: J.
        hidden: widths of the hidden layers, of either half.
        ensemble: whether the DNN is there.
        layer_norm: see `LogarithmicNeurons`.
        dropout: after each hidden layer.

    Shape:
        emb_BFD -> logit_B

    >>> AFN(3, 4, num_neurons=6, hidden=(8,))(torch.randn(5, 3, 4)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        num_fields: int,
        dim: int,
        *,
        num_neurons: int,
        hidden: Sequence[int],
        ensemble: bool = False,
        layer_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.logarithmic = LogarithmicNeurons(num_fields, dim, num_neurons, layer_norm=layer_norm)
        self.deep = perceptron(num_neurons * dim, hidden, dropout)
        self.dnn = perceptron(num_fields * dim, hidden, dropout) if ensemble else None
        self.weigh = nn.Linear(2, 1) if ensemble else None

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.deep(self.logarithmic(emb_BFD).flatten(1))
        if self.dnn is not None and self.weigh is not None:
            logit_B1 = self.weigh(torch.cat([logit_B1, self.dnn(emb_BFD.flatten(1))], dim=1))
        return logit_B1.squeeze(1)
