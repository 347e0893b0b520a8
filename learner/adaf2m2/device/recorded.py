"""The deep part's step recorded once, and run again as a whole: on a GPU launching its small parts costs most.

A step has two halves, as what the fast part says lies between them: predict, then learn. Both are of fixed shapes. A
micro-batch is filled up with what is no sample, has no values and counts nothing, and so are its lists of occurrences
and of rows; where one has no room, a wider step is recorded. It is recorded (as CUDA graphs) after a few steps that run
as they come, which find out what has to be made first.
"""

import logging
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.batch import Batch
from learner.adaf2m2.device.fixed import Fixed
from learner.adaf2m2.device.graphs import Half, recorder_on
from learner.adaf2m2.device.rows import DeviceRows
from learner.adaf2m2.loss import Target
from learner.adaf2m2.model import Output
from learner.adaf2m2.taken import Told

log = logging.getLogger("coldstream.learner")

_WARM_UP = 3
"""Steps that run as they come."""
_LEAST = 16


class Steps(Protocol):
    """What is recorded."""

    def forward(self, rows_UW: Tensor, batch: Batch) -> Output:
        """The forward that is learned from."""

    def backward(self, output: Output, target: Target) -> None:
        """Gradients, and the optimiser's step on what is dense."""


class RecordedSteps:
    """Steps of at most so many samples, of a deep part whose rows lie on the device.

    Args:
        steps: its halves; they look at no value, and draw from `generator` alone.
        rows: its rows.
        lr: their learning rate.
        num_samples: of a micro-batch, as a rule at most.
        generator: on the device.
    """

    def __init__(self, steps: Steps, rows: DeviceRows, lr: float, num_samples: int, generator: torch.Generator) -> None:
        self._steps, self._rows, self._lr = steps, rows, lr
        self._num_samples, self._generator = num_samples, generator
        self._device = rows.values_RW.device
        self.recorder = recorder_on(self._device)
        """None: steps run as they come."""
        self.forget()

    def forget(self) -> None:
        """What is recorded is void, as tensors have come to lie elsewhere."""
        self._fixed: Fixed | None = None
        self.halves: list[Half] = [self._predict, self._learn]
        self.is_recorded, self._num_steps, self._num_moves = False, 0, -1

    def predict(self, batch: Batch) -> Output:
        """Logits and weights of the samples, which `learn` goes back through.

        Args:
            batch: on the CPU, without histories.
        """
        arrays = _arrays(batch)
        self._rows.send(arrays["rows"])
        fixed = self._fixed
        if fixed is None or self._num_moves != self._rows.num_moves or not fixed.has_room(**arrays):
            fixed = self._begin(batch, arrays)
        # Norms of what is no sample are not 0, whose logarithm is far from all others.
        fixed.put({"offsets": len(arrays["occurrences"]), "norms": 1.0}, **arrays)
        if not self.is_recorded and self._num_steps >= _WARM_UP:
            self._record()
        self._run(0)
        output, num = self._output, len(batch)
        return Output(output.main_B[:num], None, None if output.weight_BF is None else output.weight_BF[:num])

    def learn(self, told: Told, rows_U: np.ndarray) -> None:
        """The rest of the step, on what was predicted last.

        Args:
            told: of its samples.
            rows_U: of its micro-batch.
        """
        assert self._fixed is not None
        self._fixed.put({}, **told._asdict())
        self._run(1)
        self._rows.stepped(rows_U)
        self._num_steps += 1

    def _begin(self, batch: Batch, arrays: dict[str, np.ndarray]) -> Fixed:
        """Make room for micro-batches like this one; what was recorded is dropped."""
        former = self._fixed
        self.forget()
        self._num_moves = self._rows.num_moves
        num_fields = len(arrays["offsets"]) // len(batch)
        num_samples = max(self._num_samples, len(batch))
        lengths = dict.fromkeys(("norms", "counts", "there", *Told._fields), num_samples)
        lengths["offsets"] = num_samples * num_fields
        for name in ("rows", "occurrences", "weights"):
            before = 0 if former is None else len(former.there[name])
            lengths[name] = max(before, _room(len(arrays[name])))
        like = {**arrays, **dict.fromkeys(Told._fields, np.zeros(0, np.float32))}
        self._fixed = Fixed(like, lengths, self._device)
        return self._fixed

    # The halves -------------------------------------------------------------------------------------------------

    def _predict(self) -> None:
        assert self._fixed is not None
        there = self._fixed.there
        self._rows_UW = self._rows.values_RW.index_select(0, there["rows"]).requires_grad_()
        batch = Batch(
            there["rows"],
            there["occurrences"],
            there["offsets"],
            there["weights"],
            there["norms"],
            there["counts"],
            is_there_B=there["there"],
        )
        self._output = self._steps.forward(self._rows_UW, batch)

    def _learn(self) -> None:
        assert self._fixed is not None
        there = self._fixed.there
        self._steps.backward(self._output, Target(*(there[name] for name in Told._fields)))
        assert self._rows_UW.grad is not None
        self._rows.step_there(there["rows"], self._rows_UW.grad, self._lr)

    def _run(self, number: int) -> None:
        half = self.halves[number]
        if self.recorder is None or self.is_recorded:
            half()
        else:
            self.recorder.run(half)

    def _record(self) -> None:
        """Record both halves. A step that cannot be recorded goes on as it comes."""
        if self.recorder is None:
            return
        try:
            self.halves = self.recorder.record(self.halves, self._generator)
        except RuntimeError as exc:
            log.warning("the deep part's step is not recorded, and runs in parts: %s", str(exc).splitlines()[0])
            self.recorder = None
            return
        self.is_recorded = True


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    columns = {
        "rows": batch.rows_U,
        "occurrences": batch.occurrence_N,
        "offsets": batch.offsets_BF,
        "weights": batch.weights_N,
        "norms": batch.norms_B2,
        "counts": batch.counts_BC,
    }
    arrays: dict[str, np.ndarray] = {name: column.numpy() for name, column in columns.items()}
    return arrays | {"there": np.ones(len(batch), np.float32)}


def _room(length: int) -> int:
    """Room for lists that are a little longer, too."""
    return max(_LEAST, 1 << (length + length // 4).bit_length())
