"""Arrays in tensors of fixed shapes that stay where they are on the device, as a recorded step needs its inputs."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Fixed:
    """Tensors by name, each filled up to its length.

    Args:
        like: an array of each name, of which the type and all lengths but the first are taken.
        lengths: the first one, by name.
        device: where they are.

    >>> fixed = Fixed({"x": np.zeros(0, np.int64)}, {"x": 4}, torch.device("cpu"))
    >>> fixed.put({"x": 9}, x=np.array([1, 2]))
    >>> fixed.there["x"].tolist()
    [1, 2, 9, 9]
    """

    def __init__(
        self,
        like: Mapping[str, np.ndarray],
        lengths: Mapping[str, int],
        device: torch.device,
    ) -> None:
        # From memory that is pinned a copy goes on by itself.
        self._here = {
            name: torch.from_numpy(np.zeros((lengths[name], *array.shape[1:]), array.dtype))
            for name, array in like.items()
        }
        if device.type == "cuda":
            self._here = {name: tensor.pin_memory() for name, tensor in self._here.items()}
        self.there: dict[str, Tensor] = {name: tensor.to(device, copy=True) for name, tensor in self._here.items()}

    def has_room(self, **arrays: np.ndarray) -> bool:
        """Whether arrays, by name, are no longer than there is room."""
        return all(len(array) <= len(self.there[name]) for name, array in arrays.items())

    def put(self, fills: Mapping[str, float], /, **arrays: np.ndarray) -> None:
        """Have these be there.

        Args:
            fills: what fills each up, by name; 0 if not given.
            arrays: by name. What was put there before must have been used up.
        """
        for name, array in arrays.items():
            here = self._here[name].numpy()
            here[: len(array)] = array
            here[len(array) :] = fills.get(name, 0)
            self.there[name].copy_(self._here[name], non_blocking=True)
