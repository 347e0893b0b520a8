"""What the processes of a group send each other: byte strings and sums, by plain collectives of torch.distributed.

gloo waits without a processor, and tells at once when a process at the other end has ended. Sums of tensors that lie on
GPUs go from GPU to GPU by NCCL where each process has a GPU of its own, and else by way of the CPU.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from learner.group.agreed import LEADER, Command, GroupLostError, Place

_ANSWER = timedelta(minutes=10)
"""Longest time that the others take for their part of what is being done."""
_NEXT = timedelta(days=365)
"""Longest time until the leader says what is to be done next: it may wait for a stream, or a server, for long."""


class Wire:
    """This process' end. All processes of a group call the same methods in the same order.

    Args:
        place: where it is.
        at: is told when the others know how much is to come and have none of it yet, so that tests can die there.

    Raises:
        GroupLostError: the others do not come.
    """

    def __init__(self, place: Place, at: Callable[[str], None] = lambda _: None) -> None:
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self._between_gpus: dist.ProcessGroup | None = None
        self._at = at
        self.num_bytes = 0
        """Sent to others so far."""
        with _lost(place.rank):
            dist.init_process_group(
                "gloo", init_method=place.url, rank=place.rank, world_size=place.size, timeout=_ANSWER
            )
            self._next = dist.new_group(timeout=_NEXT, backend="gloo")

    def reach(self, device: torch.device) -> None:
        """Say where this process computes, as all others do, so that sums take the shortest way.

        Args:
            device: of its tensors.
        """
        own = f"{socket.gethostname()} {device}" if device.type == "cuda" else ""
        places = [bytes(place) for place in self.share(own.encode())]
        is_of_its_own = all(places) and len(set(places)) == self.size
        if is_of_its_own and self._between_gpus is None and dist.is_nccl_available():
            with _lost(self.rank):
                self._between_gpus = dist.new_group(timeout=_ANSWER, backend="nccl")

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()

    def tell(self, command: int, said: bytes = b"") -> None:
        """As the leader, say what is to be done."""
        with _lost(self.rank):
            dist.broadcast(torch.tensor([command, len(said)]), LEADER, group=self._next)
        if said:
            self._broadcast(_tensor(said))
            self.num_bytes += len(said) * (self.size - 1)

    def hear(self) -> tuple[int, bytes]:
        """As another, wait for what is to be done."""
        head = torch.zeros(2, dtype=torch.int64)
        with _lost(self.rank):
            dist.broadcast(head, LEADER, group=self._next)
        command, size = head.tolist()
        if not size:
            return command, b""
        said = torch.empty(size, dtype=torch.uint8)
        self._broadcast(said)
        return command, said.numpy().tobytes()

    def _broadcast(self, said: Tensor) -> None:
        with _lost(self.rank):
            dist.broadcast(said, LEADER)

    def exchange(self, parts: Sequence[bytes]) -> list[memoryview]:
        """Give each rank its part, and take theirs; both in the order of the ranks."""
        sizes = torch.tensor([len(part) for part in parts])
        taken = torch.empty_like(sizes)
        with _lost(self.rank):
            dist.all_to_all_single(taken, sizes)
            self._at("group.half_exchanged")
            ends = np.cumsum(taken.numpy())
            received = torch.empty(int(ends[-1]), dtype=torch.uint8)
            # Whoever has nothing to send or to take knows that of itself alone, so all take part.
            dist.all_to_all_single(received, _tensor(b"".join(parts)), taken.tolist(), sizes.tolist())
        self.num_bytes += sum(len(part) for rank, part in enumerate(parts) if rank != self.rank)
        whole = received.numpy().data
        return [whole[end - size : end] for end, size in zip(ends.tolist(), taken.tolist(), strict=True)]

    def gather(self, part: bytes) -> list[memoryview]:
        """The leader takes every rank's part; the others take nothing."""
        taken = self.exchange([part if rank == LEADER else b"" for rank in range(self.size)])
        return taken if self.rank == LEADER else []

    def share(self, part: bytes) -> list[memoryview]:
        """Every rank takes every rank's part."""
        return self.exchange([part] * self.size)

    def sum(self, tensor: Tensor) -> None:
        """Make a tensor the sum of every rank's, the same bits at all of them."""
        with _lost(self.rank):
            if tensor.device.type == "cpu":
                dist.all_reduce(tensor)
            elif self._between_gpus is not None:
                dist.all_reduce(tensor, group=self._between_gpus)
            else:
                here = tensor.cpu()
                dist.all_reduce(here)
                tensor.copy_(here)
        # A ring passes each part on twice.
        self.num_bytes += 2 * tensor.nbytes * (self.size - 1) // self.size


def dismiss(wire: Wire) -> None:
    """As the leader, have the others end. That somebody has gone already is no matter any more."""
    with suppress(GroupLostError):
        wire.tell(Command.STOP)
    wire.close()


def _tensor(part: bytes) -> Tensor:
    return torch.frombuffer(bytearray(part), dtype=torch.uint8) if part else torch.empty(0, dtype=torch.uint8)


@contextmanager
def _lost(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:
        why = str(exc).strip().splitlines()[0]
        raise GroupLostError(
            f"process {rank} of the group has lost the others ({why}): all of them are to be started anew, and go on "
            "from their checkpoint"
        ) from exc
