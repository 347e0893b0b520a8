"""Steps on the foreign device recorded and run again, as CUDA graphs are: the same operations, on the same memory.

As on a GPU, nothing is done while a step is recorded: what it has changed is put back, and what it has made is not a
number until it runs. To look at a value is refused, and so is a copy from the CPU, but for what is drawn by the step
itself (there is no generator on the foreign device).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_flatten

_LOOKS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal")


class Done(NamedTuple):
    """One operation, on memory of the host."""

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    found: Any


def _tensors(of: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(of)[0] if isinstance(leaf, torch.Tensor)]


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Recording:
    """What is done while it is recorded."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._drawn: set[int] = set()

    def do(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], *, moves_there: bool) -> Any:
        """Do one, and keep it."""
        name = func._schema.name
        if name in _LOOKS:
            raise RuntimeError(f"{name}: a value is looked at while a step is recorded")
        is_drawn = kwargs.get("generator") is not None
        is_drawn |= any(_place(tensor) in self._drawn for tensor in _tensors((args, kwargs)))
        if moves_there and not is_drawn:
            raise RuntimeError(f"{name}: something comes from the CPU while a step is recorded")
        written = [arg for arg, said in zip(args, func._schema.arguments, strict=False) if _is_written(said)]
        self._before += [(tensor, tensor.clone()) for tensor in _tensors(written)]
        found = func(*args, **kwargs)
        if is_drawn:
            self._drawn |= {_place(tensor) for tensor in _tensors(found)}
        self.done.append(Done(func, args, kwargs, found))
        return found

    def undo(self) -> None:
        """Have memory be as it was; what was made is not a number."""
        for tensor, before in reversed(self._before):
            tensor.copy_(before)
        for one in self.done:
            for tensor in _new(one):
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)

    def run(self) -> None:
        """Do all of it again, on the same memory."""
        for one in self.done:
            again = one.func(*one.args, **one.kwargs)
            fresh = {id(tensor) for tensor in _new(one)}
            for tensor, computed in zip(_tensors(one.found), _tensors(again), strict=True):
                if id(tensor) in fresh:
                    tensor.copy_(computed)


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _new(one: Done) -> list[torch.Tensor]:
    """What it has made that is no view of what it was given."""
    given = {_place(tensor) for tensor in _tensors((one.args, one.kwargs))}
    return [tensor for tensor in _tensors(one.found) if _place(tensor) not in given]


current: list[Recording] = []
"""The one that is being made, if any."""


@contextmanager
def recording() -> Iterator[Recording]:
    """Within it, what is done on the foreign device is recorded."""
    current.append(Recording())
    try:
        yield current[0]
    finally:
        current.pop()


class Recorder:
    """As `learner.adaf2m2.device.graphs.Recorder`."""

    def __init__(self) -> None:
        self.num_recorded = 0

    def run(self, half: Callable[[], None]) -> None:
        half()

    def record(self, halves: Sequence[Callable[[], None]], generator: torch.Generator) -> list[Callable[[], None]]:
        state, made = generator.get_state(), []
        for half in halves:
            with recording() as one:
                half()
            made.append(one)
        for one in reversed(made):
            one.undo()
        generator.set_state(state)
        self.num_recorded += 1
        return [one.run for one in made]
