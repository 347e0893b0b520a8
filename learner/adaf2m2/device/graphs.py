"""Half a step as a CUDA graph: recorded once, and launched as a whole from then on.

While it is recorded nothing is computed, and neither may a value be looked at nor may anything come from the CPU's
memory, but for what is pinned.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

Half = Callable[[], None]


class Recorder(Protocol):
    """Records halves of steps."""

    def run(self, half: Half) -> None:
        """Run one as it comes, so that it may be recorded later."""

    def record(self, halves: Sequence[Half], generator: torch.Generator) -> list[Half]:
        """What runs each again, always in this order.

        Args:
            halves: what they make stays where it is, for the next one and for whoever reads it.
            generator: what they draw from, on the device.

        Raises:
            RuntimeError: the device refuses.
        """


class CudaGraphs:
    """Records on one GPU.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # What is recorded must not be on the stream on which all else is done.
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, half: Half) -> None:
        """As `Recorder`: on the stream on which it will be recorded, as autograd keeps in mind which one that was."""
        current = torch.cuda.current_stream(self._device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            half()
        current.wait_stream(self._side)

    def record(self, halves: Sequence[Half], generator: torch.Generator) -> list[Half]:
        """As `Recorder`."""
        recorded: list[torch.cuda.CUDAGraph] = []
        for half in halves:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(generator)
            # They share memory: what one has made the next one reads.
            pool = recorded[0].pool() if recorded else None
            with torch.cuda.graph(graph, pool=pool, stream=self._side):
                half()
            recorded.append(graph)
        return [graph.replay for graph in recorded]


def recorder_on(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing can be."""
    return CudaGraphs(device) if device.type == "cuda" else None
