"""How the losses of several tasks become one step.

fixed        sum_t w_t L_t
uncertainty  sum_t exp(-s_t) L_t + s_t / 2, s_t = log sigma_t^2 learned (Kendall et al., CVPR 2018, eq. 10)
pcgrad       sum_t w_t L_t, but of each two gradients of what tasks share that point against each other, each loses
             what points against the other (Yu et al., NeurIPS 2020, algorithm 1)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.config import BalanceSettings


class Balance(nn.Module):
    """Puts the losses of T tasks together.

    Args:
        settings: of the balance.
        tasks: their names.
        seed: of the order in which conflicts are looked for.
    """

    weights_T: Tensor

    def __init__(self, settings: BalanceSettings, tasks: Sequence[str], seed: int) -> None:
        super().__init__()
        self.method = settings.method
        weights_T = torch.tensor([settings.weights.get(task, 1.0) for task in tasks])
        self.register_buffer("weights_T", weights_T, persistent=False)
        self.log_variance_T = nn.Parameter(torch.zeros(len(tasks))) if self.method == "uncertainty" else None
        self.generator = torch.Generator().manual_seed(seed)

    def total(self, losses: Sequence[Tensor], counts_T: Tensor) -> Tensor:
        """The sum that is made small, a scalar; of `pcgrad` without what it does to gradients.

        Args:
            losses: of the tasks, a scalar each.
            counts_T: samples that each loss is the mean of. A task without any teaches nothing: of its variance, too.
        """
        losses_T = torch.stack(list(losses))
        if self.log_variance_T is not None:
            of_task_T = (-self.log_variance_T).exp() * losses_T + self.log_variance_T / 2
            return (of_task_T * (counts_T > 0)).sum()
        return (self.weights_T * losses_T).sum()

    def backward(self, losses: Sequence[Tensor], counts_T: Tensor, rest: Tensor, parameters: Sequence[Tensor]) -> None:
        """Give each parameter its gradient, as `Tensor.backward` does.

        Args:
            losses: of the tasks, a scalar each.
            counts_T: as of `total`.
            rest: what the loss has besides, a scalar.
            parameters: leaves; only with `pcgrad` it matters which.
        """
        if self.method != "pcgrad":
            (self.total(losses, counts_T) + rest).backward()  # type: ignore[no-untyped-call]
            return
        # One by one: of a stack of losses, each would depend on whatever the others do.
        weighted = [weight * loss for weight, loss in zip(self.weights_T.cpu().tolist(), losses, strict=True)]
        by_task = [_gradients(loss, parameters) for loss in weighted]
        of_rest = _gradients(rest, parameters) if rest.requires_grad else [None] * len(parameters)
        shared = [sum(own[p] is not None for own in by_task) > 1 for p in range(len(parameters))]
        flat_TP = torch.stack([_flat(own, parameters, shared) for own in by_task])
        agreed_P = project(flat_TP, self.generator)
        at = 0
        for p, parameter in enumerate(parameters):
            found = [gradient for gradient in (*(own[p] for own in by_task), of_rest[p]) if gradient is not None]
            if shared[p]:
                size = parameter.numel()
                found = [agreed_P[at : at + size].view_as(parameter)]
                found += [] if of_rest[p] is None else [of_rest[p]]  # type: ignore[list-item]
                at += size
            parameter.grad = torch.stack(found).sum(0) if found else None


def project(gradients_TP: Tensor, generator: torch.Generator) -> Tensor:
    """The sum of T gradients, of which each has lost what points against the others.

    Args:
        gradients_TP: one per task.
        generator: of the order in which each looks at the others.

    >>> project(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]), torch.Generator()).tolist()
    [-0.5, 1.5]
    """
    num_tasks = len(gradients_TP)
    squares_T = gradients_TP.square().sum(1)
    projected_TP = gradients_TP.clone()
    for t in range(num_tasks):
        for other in torch.randperm(num_tasks, generator=generator).tolist():
            along = projected_TP[t] @ gradients_TP[other]
            if other != t and along < 0:
                projected_TP[t] -= along / squares_T[other] * gradients_TP[other]
    return projected_TP.sum(0)


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


def _flat(own: Sequence[Tensor | None], parameters: Sequence[Tensor], shared: Sequence[bool]) -> Tensor:
    """Gradients of what is shared, one behind the other; 0 where this task has none."""
    parts = [
        (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
        for gradient, parameter, is_shared in zip(own, parameters, shared, strict=True)
        if is_shared
    ]
    return torch.cat(parts) if parts else torch.zeros(0)
