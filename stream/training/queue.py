"""Samples at hand: what was read of the outbox and waits to be learned from."""

from collections import deque

import msgspec
import numpy as np

from learner.samples.columns import Samples, concatenate


class Piece(msgspec.Struct, frozen=True):
    """What is to be learned of one entry of the outbox."""

    partition: int
    sequences_B: np.ndarray
    """Of its samples; those that were learned before are left out."""
    samples: Samples
    end: int
    """The entry's last sequence number."""

    def split(self, size: int) -> tuple["Piece", "Piece"]:
        """Its first `size` samples, which are not all, and the others."""
        sequences = self.sequences_B
        head = Piece(self.partition, sequences[:size], self.samples.slice(0, size), int(sequences[size - 1]))
        return head, Piece(self.partition, sequences[size:], self.samples.slice(size, len(sequences)), self.end)


class Block(msgspec.Struct, frozen=True):
    """Samples that are learned from together."""

    samples: Samples
    partitions_B: np.ndarray
    sequences_B: np.ndarray
    ends: dict[int, int]
    """Partition -> sequence number that has been reached once they are learned."""


def whole_batches(at_hand: int, settings: tuple[int, int], *, partial: bool) -> int:
    """How many samples to take of those at hand: whole micro-batches, at most a block.

    So micro-batches end where they would if all samples were there from the start, however they come in.

    Args:
        at_hand: samples.
        settings: size of a block, and of a micro-batch.
        partial: take less than a micro-batch, too, if there is no more.

    >>> [whole_batches(n, (1024, 256), partial=False) for n in (2000, 700, 255)]
    [1024, 512, 0]
    >>> whole_batches(255, (1024, 256), partial=True)
    255
    """
    block, batch = settings
    size = min(at_hand, block)
    if size < batch:
        return size if partial else 0
    return size - size % batch


class SampleQueue:
    """Pieces in the order in which they were read."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._num_samples = 0

    def __len__(self) -> int:
        return self._num_samples

    def put(self, piece: Piece) -> None:
        """Put a piece behind the others; it may have no samples."""
        self._pieces.append(piece)
        self._num_samples += len(piece.samples)

    def pass_empty(self) -> dict[int, int]:
        """Take pieces without samples from the front; returns partition -> sequence number that is reached by that."""
        reached = {}
        while self._pieces and not len(self._pieces[0].samples):
            piece = self._pieces.popleft()
            reached[piece.partition] = piece.end
        return reached

    def pop(self, size: int) -> Block:
        """The first `size` samples, of as many as there are or fewer, and at least one."""
        taken: list[Piece] = []
        while size and self._pieces:
            piece = self._pieces.popleft()
            if len(piece.samples) > size:
                piece, rest = piece.split(size)
                self._pieces.appendleft(rest)
            taken.append(piece)
            size -= len(piece.samples)
        self._num_samples -= sum(len(piece.samples) for piece in taken)
        return Block(
            concatenate([piece.samples for piece in taken]),
            np.repeat([piece.partition for piece in taken], [len(piece.samples) for piece in taken]),
            np.concatenate([piece.sequences_B for piece in taken]),
            {piece.partition: piece.end for piece in taken} | self.pass_empty(),
        )

    def forget(self, partition: int) -> None:
        """Drop what waits of a partition: it will be read again."""
        self._pieces = deque(piece for piece in self._pieces if piece.partition != partition)
        self._num_samples = sum(len(piece.samples) for piece in self._pieces)
