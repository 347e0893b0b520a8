"""Customised gate control and progressive layered extraction (Tang et al., RecSys 2020).

    g^k(x) = softmax(W^k x) S^k(x),  S^k(x): the task's own experts and the shared ones        (CGC, eq. 1-4)
    g^{k,j}(x) = softmax(W^{k,j} g^{k,j-1}(x)) S^{k,j}(x),  g^{k,0} = g^{s,0} = x              (PLE, eq. 5-6)
    y^k(x) = t^k(g^{k,N}(x))                                                                   (eq. 7)

The shared gate of every layer but the last weighs all experts of the layer. With one layer, PLE is CGC.
"""

import torch
from torch import Tensor, nn

from learner.config import HeadSettings
from learner.heads.layers import Heads, experts, logits_of, mix, tower


class Extraction(nn.Module):
    """One layer: experts of each task, shared ones, and gates.

    Args:
        settings: of the heads.
        num_inputs: width of what comes in.
        num_tasks: T.
        is_last: whether there is no shared gate, as nothing would take its output.

    Shape:
        T tensors of the tasks and one that is shared, (B, num_inputs) each -> the same, (B, X) each
    """

    def __init__(self, settings: HeadSettings, num_inputs: int, num_tasks: int, *, is_last: bool) -> None:
        super().__init__()
        own, shared, units = settings.own_experts, settings.experts, settings.expert_width
        self.shared = experts(shared, num_inputs, units)
        self.own = nn.ModuleList(experts(own, num_inputs, units) for _ in range(num_tasks))
        self.gates = nn.ModuleList(nn.Linear(num_inputs, own + shared, bias=False) for _ in range(num_tasks))
        self.shared_gate = None if is_last else nn.Linear(num_inputs, num_tasks * own + shared, bias=False)

    def forward(self, tasks_TBX: list[Tensor], shared_BX: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each task gets, and what is shared."""
        of_all = [expert(shared_BX) for expert in self.shared]
        of_tasks = [
            [expert(x_BX) for expert in own]  # type: ignore[attr-defined]
            for own, x_BX in zip(self.own, tasks_TBX, strict=True)
        ]
        out = [
            mix(gate, x_BX, torch.stack([*own, *of_all], dim=1))  # type: ignore[arg-type]
            for gate, x_BX, own in zip(self.gates, tasks_TBX, of_tasks, strict=True)
        ]
        if self.shared_gate is None:
            return out, shared_BX
        every = [expert_BX for own in of_tasks for expert_BX in own] + of_all
        return out, mix(self.shared_gate, shared_BX, torch.stack(every, dim=1))


class PLE(Heads):
    """Layers of extraction, then a tower per task.

    Args:
        settings: of the heads.
        width: H.
        num_tasks: T.

    >>> PLE(HeadSettings(layers=2), 6, 3)(torch.ones(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(self, settings: HeadSettings, width: int, num_tasks: int) -> None:
        super().__init__()
        units, last = settings.expert_width, settings.layers - 1
        self.layers = nn.ModuleList(
            Extraction(settings, units if n else width, num_tasks, is_last=n == last) for n in range(settings.layers)
        )
        self.towers = nn.ModuleList(tower(units, settings.tower) for _ in range(num_tasks))

    def forward(self, h_BH: Tensor) -> Tensor:
        """Logits of every task."""
        tasks_TBX, shared_BX = [h_BH] * len(self.towers), h_BH
        for layer in self.layers:
            tasks_TBX, shared_BX = layer(tasks_TBX, shared_BX)
        return logits_of(self.towers, tasks_TBX)
