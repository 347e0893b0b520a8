"""Tensors as what compiled code takes."""

import numpy as np
from torch import Tensor


def arrays_of(*tensors: Tensor) -> list[np.ndarray]:
    """Views of CPU tensors, one behind the other in memory, whether they have gradients or not."""
    return [(tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy() for tensor in tensors]
