"""State-aware adapter: weigh each field by how well user and item are known.

AdaF2M2, section 3.4: a(v_i) = w_i v_i with [w_1 .. w_n] = sigmoid(h([r_ID, r_norm, r_count])).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from learner.adaf2m2.kernels.signals import (
    EPSILON,
    LOG,
    NORM_MAX,
    NORM_MIN,
    RAW,
    SQRT,
    SQUARE,
    faded_in,
    measured,
    normalised,
)
from learner.config import Norm

_OF_NORMS: Mapping[Norm, Callable[[Tensor], Tensor]] = {
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "raw": torch.Tensor.clone,
}
_KINDS: Mapping[Norm, int] = {"log": LOG, "sqrt": SQRT, "square": SQUARE, "raw": RAW}
NORMS: tuple[Norm, ...] = ("log", "sqrt", "square")
"""The paper's."""


class RunningStandardiser(nn.Module):
    """Standardise signals by fading means and variances; in a stream there is no training set to take them from.

    >>> standardise = RunningStandardiser(2)
    >>> _ = standardise.update(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    >>> standardise(torch.tensor([[1.0, 20.0]])).abs().max() < 0.1
    tensor(True)
    """

    mean_S: Tensor
    var_S: Tensor
    num_updates: Tensor

    def __init__(self, num_signals: int, momentum: float = 0.999) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean_S", torch.zeros(num_signals))
        self.register_buffer("var_S", torch.ones(num_signals))
        self.register_buffer("num_updates", torch.zeros(()))

    def update(self, x_BS: Tensor, is_there_B: Tensor | None = None) -> "RunningStandardiser":
        """Fade a batch in; early batches weigh as in a plain average.

        Args:
            x_BS: signals.
            is_there_B: 1 of each sample, 0 of what only fills the batch; None: all are samples.
        """
        self.num_updates += 1
        if x_BS.device.type == "cpu" and is_there_B is None:
            faded_in(x_BS, self.mean_S, self.var_S, min(self.momentum, 1.0 - 1.0 / float(self.num_updates)))
            return self
        # A value that Python looks at could not be recorded.
        keep = (1.0 - 1.0 / self.num_updates).clamp(max=self.momentum)
        counts_B = x_BS.new_ones(len(x_BS)) if is_there_B is None else is_there_B
        share_B1 = (counts_B / counts_B.sum().clamp(min=1)).unsqueeze(1)
        mean_S = (share_B1 * x_BS).sum(0)
        var_S = (share_B1 * (x_BS - mean_S).square()).sum(0)
        shift_S = mean_S - self.mean_S
        self.var_S.mul_(keep).add_((1 - keep) * (var_S + keep * shift_S * shift_S))
        self.mean_S.add_((1 - keep) * shift_S)
        return self

    def forward(self, x_BS: Tensor) -> Tensor:
        """(x - mean) / std."""
        return (x_BS - self.mean_S) * (self.var_S + EPSILON).rsqrt()


class StateAdapter(nn.Module):
    """Weights of fields from the state of user and item; w_i = `weight_BF[:, i]`.

    r_norm enters as log, square root and square of each norm, r_count as log(1 + count), both standardised.

    Args:
        num_fields: F.
        num_state_fields: fields whose embeddings form r_ID.
        num_counts: C; 0: r_count is left out.
        dim: D.
        hidden: width of h's hidden layer, 0 for none.
        bias: initial bias of the gates.
        norms: how norms enter; none: r_norm is left out.
        scale: what weights are at most.

    Shape:
        id_BE of shape (B, num_state_fields * D), norms_B2, counts_BC -> weight_BF in (0, scale)

    Raises:
        ValueError: there is no signal at all.

    >>> StateAdapter(3, 2, 4, 8)(torch.zeros(5, 16), torch.ones(5, 2), torch.ones(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        num_fields: int,
        num_state_fields: int,
        num_counts: int,
        dim: int,
        hidden: int = 64,
        bias: float = 2.0,
        *,
        norms: Sequence[Norm] = NORMS,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        num_measured = 2 * len(norms) + num_counts
        num_signals = num_state_fields * dim + num_measured
        if num_signals < 1:
            raise ValueError(
                "the adapter has nothing to weigh fields by: give a field state = true, or set model.adapter_norms or "
                "model.adapter_counts, or turn model.adapter off"
            )
        self._norms, self._kinds_K = tuple(norms), np.array([_KINDS[name] for name in norms], np.int64)
        self._num_counts = num_counts
        self._scale = scale
        self.standardise = RunningStandardiser(num_measured)
        self.normalise = nn.LayerNorm(num_signals, EPSILON)
        last = nn.Linear(hidden or num_signals, num_fields)
        nn.init.constant_(last.bias, bias)
        self.h = nn.Sequential(nn.Linear(num_signals, hidden), nn.ReLU(), last) if hidden else last

    def forward(self, id_BE: Tensor, norms_B2: Tensor, counts_BC: Tensor, is_there_B: Tensor | None = None) -> Tensor:
        """Weights per field; in training mode the running statistics take the batch in, `is_there_B` of it."""
        if not self._num_counts:
            counts_BC = counts_BC[:, :0]
        if self.training and id_BE.device.type == "cpu" and is_there_B is None:
            signals_BS = self._in_one_pass(id_BE, norms_B2, counts_BC)
        else:
            signals_BS = self._by_torch(id_BE, norms_B2, counts_BC, is_there_B)
        weight_BF: Tensor = self._scale * torch.sigmoid(self.h(signals_BS))
        return weight_BF

    def _in_one_pass(self, id_BE: Tensor, norms_B2: Tensor, counts_BC: Tensor) -> Tensor:
        """All signals, normalised over each sample, shape (B, S)."""
        measured_BM = measured(norms_B2, counts_BC, self._kinds_K)
        standard = self.standardise.update(measured_BM)
        scale_S, shift_S = self.normalise.weight, self.normalise.bias
        return normalised(id_BE, measured_BM, (standard.mean_S, standard.var_S), scale_S, shift_S)

    def _by_torch(self, id_BE: Tensor, norms_B2: Tensor, counts_BC: Tensor, is_there_B: Tensor | None = None) -> Tensor:
        """The same where there is no compiled code: on other devices, and where a model is traced."""
        norms_B2 = norms_B2.clamp(NORM_MIN, NORM_MAX)
        measured_BM = torch.cat([*(_OF_NORMS[name](norms_B2) for name in self._norms), counts_BC.log1p()], dim=1)
        if self.training:
            self.standardise.update(measured_BM, is_there_B)
        found_BS: Tensor = self.normalise(torch.cat([id_BE, self.standardise(measured_BM)], dim=1))
        return found_BS
