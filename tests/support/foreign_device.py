"""A device that is not the CPU, for machines without one: `FOREIGN`, whose tensors no step can mix with the CPU's.

PyTorch takes it for a device of its own kind. Its memory is the host's in truth, and its steps are the CPU's; but a
step that takes tensors of both fails as it does with a GPU, and so does NumPy on one of its tensors. Only `to` and
`copy_` go from one to the other; a scalar of the CPU is taken along, as by a GPU.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from support import recording
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("foreign")
FOREIGN = torch.device("foreign", 0)
_MOVING = ("aten::_to_copy", "aten::copy_")


class _There(torch.Tensor):
    """A tensor there."""

    here: torch.Tensor
    """What it is."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "_There":
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), here.stride(), here.storage_offset(), dtype=here.dtype, device=FOREIGN
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func._schema.name  # type: ignore[attr-defined]
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, _There)}
    if there and name not in _MOVING and any(tensor.dim() for tensor in tensors if not isinstance(tensor, _There)):
        raise RuntimeError(f"{name}: tensors of the CPU and of the foreign device")
    goes_there = bool(there)
    if name == "aten::copy_":
        goes_there = isinstance(args[0], _There)
    elif kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]).type == FOREIGN.type
    args, kwargs = tree_map(_here, args), tree_map(_here, kwargs)
    if recording.current:
        from_here = name in _MOVING and goes_there and any(not isinstance(tensor, _There) for tensor in tensors)
        found = recording.current[0].do(func, args, kwargs, moves_there=from_here)
    else:
        found = func(*args, **kwargs)
    if not goes_there:
        return found

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        # What is changed in place stays the same tensor.
        return there[id(leaf)] if id(leaf) in there else _There(leaf)

    return tree_map(put, found)


def _here(leaf: Any) -> Any:
    if isinstance(leaf, torch.device) and leaf.type == FOREIGN.type:
        return torch.device("cpu")
    return leaf.here if isinstance(leaf, _There) else leaf


class _Mode(TorchDispatchMode):
    """So that tensors can be made there, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def foreign_device() -> Iterator[torch.device]:
    """Within it, tensors can be made on the device, and moved."""
    with _Mode():
        yield FOREIGN
