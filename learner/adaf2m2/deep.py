"""The deep part: AdaF2M2 in PyTorch, learned in micro-batches, with embedding rows from the learner's table.

Only the rows of a micro-batch are gathered, differentiated and written back, by Adagrad per coordinate; everything else
by Adam.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.batch import Batch, batch_of
from learner.adaf2m2.device.choice import chosen_device, generator_on, set_state
from learner.adaf2m2.device.recorded import RecordedSteps
from learner.adaf2m2.device.rows import DeviceRows, HostRows, Rows
from learner.adaf2m2.loss import Target, losses_by_task, tokens_loss, total_loss
from learner.adaf2m2.model import AdaF2M2, Output
from learner.adaf2m2.taken import Known, Occurring, Told
from learner.fast.inputs.occurrences import take
from learner.heads.balance import Balance
from learner.named import below
from learner.recipe import Recipe
from learner.tables.table import Table

log = logging.getLogger("coldstream.learner")

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
    """None if the step is a recorded one."""
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


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


class DeepPart:
    """The model, its optimiser and its random numbers.

    Args:
        recipe: says what it is.
        table: where its embedding rows are.
        device: where it computes; None: as `learner.device` says.

    Raises:
        DeviceError: there is no such device.
        DeviceMemoryError: it has no room for the rows; so does `predict`.
    """

    def __init__(self, recipe: Recipe, table: Table, device: torch.device | None = None) -> None:
        learning = recipe.learner
        self._recipe = recipe
        self.device = chosen_device(learning.device) if device is None else device
        is_there = self.device.type != "cpu" if learning.deep_rows == "auto" else learning.deep_rows == "device"
        if self.device.type != "cpu":
            log.info(
                "the deep part computes on %s, its rows lie in %s memory",
                self.device,
                "its" if is_there else "the host's",
            )
        self._rows: Rows = DeviceRows(table, self.device) if is_there else HostRows(table, self.device)
        torch.manual_seed(learning.seed)
        # Made on the CPU, so that it is the same on every device.
        self.dense = dense_of(recipe).to(self.device)
        self._mask_rng = generator_on(self.device, learning.seed + 1)
        self._is_noisy = recipe.model.dropout > 0 or recipe.model.id_dropout > 0
        self._heads_rng = torch.Generator().manual_seed(learning.seed + 2)
        parameters = list(self.dense.parameters())
        self._balance: Balance | None = None
        if self.dense.heads is not None:
            self.dense.heads.generator = self._heads_rng
            balance = Balance(learning.balance, [task.name for task in recipe.tasks], learning.seed + 3)
            self._balance = balance.to(self.device)
            parameters += self._balance.parameters()
        self._parameters = parameters
        self._optimiser = torch.optim.Adam(
            parameters, lr=learning.dense_lr, fused=True, capturable=self.device.type == "cuda"
        )
        self.average: Average | None = None
        """Where several learners take each step together."""
        self.recorded: RecordedSteps | None = None
        if isinstance(self._rows, DeviceRows) and self._has_fixed_shapes:
            self.recorded = RecordedSteps(self, self._rows, learning.embedding_lr, learning.micro_batch, self._mask_rng)

    @property
    def _has_fixed_shapes(self) -> bool:
        """Whether a step looks at no value, and draws from the masks' generator alone."""
        is_plain = self.dense.reader is None and self.dense.heads is None and not self._is_noisy
        return self._recipe.learner.cuda_graphs and self.device.type != "cpu" and is_plain

    def known(self, rows_N: np.ndarray) -> Known:
        """What is known of rows, of any shape."""
        return self._rows.known(rows_N)

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
            output = self._predict(batch, said) if is_learned else self._serve(batch)
            logits_B[chosen_B] = _array(output.main_B)
            if logits_BT is not None and output.main_BT is not None:
                logits_BT[chosen_B] = _array(output.main_BT)
            if weights_BF is not None and output.weight_BF is not None:
                weights_BF[chosen_B] = _array(output.weight_BF)
        return said

    def _serve(self, batch: Batch) -> Output:
        """What would be served."""
        self.dense.eval()
        # Rows stay behind; they must not come to be made in here.
        rows_UW = self._rows.take(batch.rows_U.numpy())
        with torch.inference_mode():
            output: Output = self.dense(rows_UW, batch.to(self.device))
        return output

    def _predict(self, batch: Batch, said: Said) -> Output:
        """What is said of samples to learn from: what would be served, of which nothing is dropped."""
        said.batch = batch
        if self.recorded is not None and self.average is None:
            said.output = self.recorded.predict(batch)
            return said.output
        output = self._serve(batch) if self._is_noisy else None
        said.rows_UW = self._rows.take(batch.rows_U.numpy()).requires_grad_()
        said.output = self.forward(said.rows_UW, batch.to(self.device))
        return said.output if output is None else output

    def forward(self, rows_UW: Tensor, batch: Batch) -> Output:
        """The forward that is learned from; both are on the device."""
        if not self.dense.training:
            self.dense.train()
        # Dropout draws from torch's own generator, which no checkpoint keeps; so it is given a seed by the one that is.
        own = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=own, enabled=self._recipe.model.dropout > 0):
            if self._recipe.model.dropout:
                rng = self._mask_rng
                torch.manual_seed(int(torch.randint(1 << 62, (), generator=rng, device=rng.device)))
            output: Output = self.dense(rows_UW, batch, self._mask_rng)
        return output

    def learn(self, said: Said, told: Told) -> None:
        """One step, on what was predicted of the samples to learn from; what is told is of those alone."""
        if said.output is None or said.batch is None:
            self.step_along()
            return
        if said.rows_UW is None:
            assert self.recorded is not None
            self.recorded.learn(told, said.batch.rows_U.numpy())
            return
        target = self._target_of(told)
        self._go_back(said.output, target)
        self._step(said.rows_UW, said.batch, len(target.labels_B))
        self.dense.update(said.output)

    def _target_of(self, told: Told) -> Target:
        return Target(*(torch.from_numpy(column_L).to(self.device) for column_L in told))

    def _go_back(self, output: Output, target: Target) -> None:
        self._optimiser.zero_grad()
        loss = total_loss(output, target, self._recipe.model) + tokens_loss(output, target)
        loss.backward()  # type: ignore[no-untyped-call]

    def backward(self, output: Output, target: Target) -> None:
        """Gradients, and the step on what is dense; both are on the device."""
        self._go_back(output, target)
        self._optimiser.step()

    def learn_tasks(self, said: Said, told: Sequence[Told]) -> None:
        """The same with heads: what is told for each task, in which samples without a label of it do not count."""
        if said.output is None or said.rows_UW is None or said.batch is None:
            self.step_along()
            return
        assert self._balance is not None
        assert self.dense.heads is not None
        self._optimiser.zero_grad()
        targets = [self._target_of(of_task) for of_task in told]
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
        self._rows.step(batch.rows_U.numpy(), rows_UW.grad, share, self._recipe.learner.embedding_lr)

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number."""
        return all(bool(torch.isfinite(p).all()) for p in self.dense.parameters())

    def weights(self) -> dict[str, np.ndarray]:
        """Dense weights, for a snapshot."""
        return {f"dense.{name}": _array(value).copy() for name, value in self.dense.state_dict().items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything dense that training depends on."""
        arrays = self.weights()
        for i, slots in self._optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": _array(value).copy() for name, value in slots.items()}
        arrays["rng.mask"] = self._mask_rng.get_state().numpy()
        if self._balance is not None:
            arrays["rng.heads"] = self._heads_rng.get_state().numpy()
            arrays["rng.balance"] = self._balance.generator.get_state().numpy()
            arrays |= {f"balance.{name}": _array(value).copy() for name, value in self._balance.state_dict().items()}
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
        if self.recorded is not None:
            self.recorded.forget()
        set_state(self._mask_rng, tensors["rng.mask"])
        if self._balance is not None:
            self._balance.load_state_dict(below("balance.", tensors))
            self._heads_rng.set_state(tensors["rng.heads"])
            self._balance.generator.set_state(tensors["rng.balance"])
