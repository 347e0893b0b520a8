"""What heads are made of, and what all of them have in common.

Shape letters: B samples, H width of the representation, E experts, X width of an expert, T tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """Turns a representation into one logit per task.

    Shape:
        h_BH -> logits_BT
    """

    generator: torch.Generator | None = None
    """Of what is drawn in training mode; torch's own if there is none."""

    def forward(self, h_BH: Tensor) -> Tensor:
        """Logits of every task."""
        raise NotImplementedError("each kind of heads has its own")

    def penalty(self) -> Tensor:
        """What the structure itself adds to the loss, a scalar; 0 for most."""
        return torch.zeros(())


def experts(count: int, num_inputs: int, width: int) -> nn.ModuleList:
    """Experts: a linear layer and ReLU each."""
    return nn.ModuleList(nn.Sequential(nn.Linear(num_inputs, width), nn.ReLU()) for _ in range(count))


def tower(num_inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """A task's own network, up to its logit."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(num_inputs, units), nn.ReLU()]
        num_inputs = units
    return nn.Sequential(*layers, nn.Linear(num_inputs, 1))


def mix(gate: nn.Linear, by_BX: Tensor, experts_BEX: Tensor) -> Tensor:
    """Experts weighed by a softmax of a linear gate; shape (B, X)."""
    weights_BE = torch.softmax(gate(by_BX), dim=1)
    return torch.einsum("be,bex->bx", weights_BE, experts_BEX)


def logits_of(towers: nn.ModuleList, inputs_TBX: Sequence[Tensor]) -> Tensor:
    """Each task's tower on its own input, side by side."""
    return torch.cat([own(x_BX) for own, x_BX in zip(towers, inputs_TBX, strict=True)], dim=1)
