"""The deep part: AdaF2M2 in PyTorch, learned in micro-batches, with embedding rows from the learner's table.

Only the rows of a micro-batch are gathered, differentiated and written back, by Adagrad per coordinate; everything else
by Adam.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.batch import Batch, batch_of
from learner.adaf2m2.kernels.rows import adagrad
from learner.adaf2m2.loss import Target, losses_by_task, tokens_loss, total_loss
from learner.adaf2m2.model import AdaF2M2, Output
from learner.adaf2m2.taken import SQUARES, VALUES, Occurring, Told
from learner.fast.inputs.occurrences import take
from learner.heads.balance import Balance
from learner.named import below
from learner.recipe import Recipe
from learner.tables.table import Table

Average = Callable[[Sequence[Tensor], int], float | None]
"""Gives parameters the mean gradient of several learners' samples, as each has computed it of so many of its own;
returns the share that these have, None if nobody has any."""


def dense_of(recipe: Recipe) -> AdaF2M2:
    """A new model, with heads where the deep part learns several tasks."""
    num_tasks = len(recipe.tasks) if recipe.has_heads else 0
    return AdaF2M2(recipe.model, recipe.fields, recipe.num_counts, num_tasks, recipe.main, recipe.deep_histories)


def weights_in(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Copies of the dense weights of a snapshot, as a model takes them."""
    return {name: torch.from_numpy(array.copy()) for name, array in below("dense.", arrays).items()}


class Said(msgspec.Struct):
    """What the deep part said of a block, and what is left of its forward."""

    logits_B: np.ndarray
    weights_BF: np.ndarray | None
    """The adapter's, if there is one."""
    logits_BT: np.ndarray | None = None
    """Of each task, where there are heads; `logits_B` is the main one's."""
    batch: Batch | None = None
    rows_UW: Tensor | None = None
    output: Output | None = None


def _chosen(occurring: Occurring, chosen_B: np.ndarray) -> Batch:
    """The micro-batch of the samples where `chosen_B` is true."""
    if chosen_B.all():
        return batch_of(
            occurring.occurrences, occurring.rows_N, occurring.norms_B2, occurring.counts_BC, occurring.histories
        )
    of_N = np.repeat(chosen_B, np.diff(occurring.occurrences.offsets_B1))
    norms_B2, counts_BC = occurring.norms_B2[chosen_B], occurring.counts_BC[chosen_B]
    histories = None if occurring.histories is None else occurring.histories.take(chosen_B)
    return batch_of(take(occurring.occurrences, chosen_B), occurring.rows_N[of_N], norms_B2, counts_BC, histories)


def _target_of(told: Told) -> Target:
    return Target(*(torch.from_numpy(column_L) for column_L in told))


class DeepPart:
    """The model, its optimiser and its random numbers.

    Args:
        recipe: says what it is.
        table: where its embedding rows are.
    """

    def __init__(self, recipe: Recipe, table: Table) -> None:
        learning = recipe.learner
        self._recipe = recipe
        self._table = table
        self._values_RW, self._squares_RW = table.values[VALUES], table.values[SQUARES]
        torch.manual_seed(learning.seed)
        self.dense = dense_of(recipe)
        self._mask_rng = torch.Generator().manual_seed(learning.seed + 1)
        self._is_noisy = recipe.model.dropout > 0 or recipe.model.id_dropout > 0
        self._heads_rng = torch.Generator().manual_seed(learning.seed + 2)
        parameters = list(self.dense.parameters())
        self._balance: Balance | None = None
        if self.dense.heads is not None:
            self.dense.heads.generator = self._heads_rng
            self._balance = Balance(learning.balance, [task.name for task in recipe.tasks], learning.seed + 3)
            parameters += self._balance.parameters()
        self._parameters = parameters
        self._optimiser = torch.optim.Adam(parameters, lr=learning.dense_lr, fused=True)
        self.average: Average | None = None
        """Where several learners take each step together."""

    def predict(self, occurring: Occurring) -> Said:
        """Logits of samples, and of those to learn from what `learn` goes back through.

        Those that are only predicted go by themselves: they must not move statistics, nor the masks' random numbers.
        """
        learn_B = occurring.learn_B
        logits_B = np.empty(len(learn_B), np.float32)
        weights_BF = np.empty((len(learn_B), len(self._recipe.fields)), np.float32) if self.dense.adapter else None
        logits_BT = None if self.dense.heads is None else np.empty((len(learn_B), len(self._recipe.tasks)), np.float32)
        said = Said(logits_B, weights_BF, logits_BT)
        for chosen_B, is_learned in ((~learn_B, False), (learn_B, True)):
            if not chosen_B.any():
                continue
            batch = _chosen(occurring, chosen_B)
            rows_UW = torch.from_numpy(self._values_RW[batch.rows_U.numpy()])
            if not is_learned or self._is_noisy:
                self.dense.eval()
                with torch.inference_mode():
                    output = self.dense(rows_UW, batch)
            if is_learned:
                learned = self._forward(rows_UW.requires_grad_(), batch)
                said.batch, said.rows_UW, said.output = batch, rows_UW, learned
                # What is said is what would be served: nothing is dropped from that.
                output = output if self._is_noisy else learned
            logits_B[chosen_B] = output.main_B.detach().numpy()
            if logits_BT is not None and output.main_BT is not None:
                logits_BT[chosen_B] = output.main_BT.detach().numpy()
            if weights_BF is not None:
                weights_BF[chosen_B] = output.weight_BF.detach().numpy()
        return said

    def _forward(self, rows_UW: Tensor, batch: Batch) -> Output:
        """The forward that is learned from."""
        if not self.dense.training:
            self.dense.train()
        # Dropout draws from torch's own generator, which no checkpoint keeps; so it is given a seed by the one that is.
        with torch.random.fork_rng(devices=[], enabled=self._recipe.model.dropout > 0):
            if self._recipe.model.dropout:
                torch.manual_seed(int(torch.randint(1 << 62, (), generator=self._mask_rng)))
            output: Output = self.dense(rows_UW, batch, self._mask_rng)
        return output

    def learn(self, said: Said, told: Told) -> None:
        """One step, on what was predicted of the samples to learn from; what is told is of those alone."""
        if said.output is None or said.rows_UW is None or said.batch is None:
            self.step_along()
            return
        target = _target_of(told)
        self._optimiser.zero_grad()
        loss = total_loss(said.output, target, self._recipe.model) + tokens_loss(said.output, target)
        loss.backward()  # type: ignore[no-untyped-call]
        self._step(said.rows_UW, said.batch, len(target.labels_B))
        self.dense.update(said.output)

    def learn_tasks(self, said: Said, told: Sequence[Told]) -> None:
        """The same with heads: what is told for each task, in which samples without a label of it do not count."""
        if said.output is None or said.rows_UW is None or said.batch is None:
            self.step_along()
            return
        assert self._balance is not None
        assert self.dense.heads is not None
        self._optimiser.zero_grad()
        targets = [_target_of(of_task) for of_task in told]
        losses, counts_T = losses_by_task(said.output, targets, self._recipe.model)
        parameters = [said.rows_UW, *self.dense.parameters()]
        losses[self._recipe.main] = losses[self._recipe.main] + tokens_loss(said.output, targets[self._recipe.main])
        self._balance.backward(losses, counts_T, self.dense.heads.penalty(), parameters)
        self._step(said.rows_UW, said.batch, len(targets[0].labels_B))
        self.dense.update(said.output)

    def step_along(self) -> None:
        """Without samples to learn from, take part in the step of those who have some."""
        if self.average is not None:
            self._optimiser.zero_grad()
            if self.average(self._parameters, 0) is not None:
                self._optimiser.step()

    def _step(self, rows_UW: Tensor, batch: Batch, num_samples: int) -> None:
        """With the gradients that there are: Adam for what is dense, Adagrad for the rows."""
        share = 1.0 if self.average is None else self.average(self._parameters, num_samples)
        self._optimiser.step()
        assert rows_UW.grad is not None
        assert share is not None
        rows_U, lr = batch.rows_U.numpy(), self._recipe.learner.embedding_lr
        adagrad(self._values_RW, self._squares_RW, rows_U, rows_UW.grad.numpy(), np.float32(share), np.float32(lr))
        self._table.mark(rows_U[rows_U > 0])

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number."""
        return all(bool(torch.isfinite(p).all()) for p in self.dense.parameters())

    def weights(self) -> dict[str, np.ndarray]:
        """Dense weights, for a snapshot."""
        return {f"dense.{name}": value.numpy().copy() for name, value in self.dense.state_dict().items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything dense that training depends on."""
        arrays = self.weights()
        for i, slots in self._optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": value.numpy().copy() for name, value in slots.items()}
        arrays["rng.mask"] = self._mask_rng.get_state().numpy()
        if self._balance is not None:
            arrays["rng.heads"] = self._heads_rng.get_state().numpy()
            arrays["rng.balance"] = self._balance.generator.get_state().numpy()
            arrays |= {f"balance.{name}": value.numpy().copy() for name, value in self._balance.state_dict().items()}
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: the state is of another interaction model, or of other widths.
        """
        tensors = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
        try:
            self.dense.load_state_dict(below("dense.", tensors))
        except RuntimeError as exc:
            why = str(exc).splitlines()[-1].strip()
            raise ValueError(
                f"the deep part's weights are not those of model.deep = {self._recipe.model.deep!r} as it is set now "
                f"({why}); its settings have changed"
            ) from exc
        adam: dict[str, Any] = self._optimiser.state_dict()
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in below("adam.", tensors).items():
            i, slot = name.split(".", 1)
            slots.setdefault(int(i), {})[slot] = value
        adam["state"] = slots
        self._optimiser.load_state_dict(adam)
        self._mask_rng.set_state(tensors["rng.mask"])
        if self._balance is not None:
            self._balance.load_state_dict(below("balance.", tensors))
            self._heads_rng.set_state(tensors["rng.heads"])
            self._balance.generator.set_state(tensors["rng.balance"])
