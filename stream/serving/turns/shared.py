"""Two models in turn in memory that processes share: one of them loads, the others read.

Made before the processes are forked. Whoever reads marks so in a place of its own, which is cleared for it if it dies;
whoever loads may die, too, and be replaced: what it left unfinished is begun anew. The order of writes that this rests
on is x86's: they are seen in the order in which they were made.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from learner.recipe import Recipe
from learner.snapshot import ServingModel
from learner.tables.memory import reserve, sharing
from state_store.weights import Manifest, WeightsError
from stream.serving.turns.local import InForce, Told, Turns

_NONE = -1
_SETTLE_S = 0.001
"""A mark that was made before its model went out of force is seen after that long, and far sooner."""
_MAX_BYTES = 16 << 20
"""Of what is told about a model, mostly its manifest; what is not used costs nothing."""
_MAX_REFUSED = 4096
_CURRENT, _NUM_SWAPS = 0, 1


class _Cell:
    """Bytes that one process writes and others read whole, without waiting for each other."""

    def __init__(self) -> None:
        self._serial_1 = reserve((1,), np.int64)
        self._sizes_2 = reserve((2,), np.int64)
        self._bytes_2 = reserve((2, _MAX_BYTES), np.uint8)

    @property
    def serial(self) -> int:
        """Another one after each `write`."""
        return int(self._serial_1[0])

    def write(self, said: bytes) -> None:
        if len(said) > _MAX_BYTES:
            raise WeightsError(
                f"{len(said)} bytes are told of weights, at most {_MAX_BYTES} can be: publish.full_every"
            )
        side = (self.serial + 1) % 2
        self._bytes_2[side, : len(said)] = np.frombuffer(said, np.uint8)
        self._sizes_2[side] = len(said)
        self._serial_1[0] += 1

    def read(self) -> tuple[int, bytes]:
        """The serial, and what was written with it."""
        while True:
            serial = self.serial
            said = self._bytes_2[serial % 2, : self._sizes_2[serial % 2]].tobytes()
            if serial == self.serial:
                return serial, said


class _SharedInForce(InForce):
    """A model whose tables and manifest lie in shared memory."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._cell = _Cell()
        self._serial = 0

    def see(self) -> None:
        """What it holds now. Nobody may write to it meanwhile."""
        if self._serial != self._cell.serial:
            self._serial, said = self._cell.read()
            self.told = msgspec.json.decode(said, type=Told)
            self.model.attach()

    def tell(self, told: Told) -> None:
        """It holds something else."""
        super().tell(told)
        self._cell.write(msgspec.json.encode(told))
        self._serial = self._cell.serial


class SharedTurns(Turns):
    """Two models that processes share.

    Args:
        recipe: of the learner that publishes.
        num_readers: processes that read; one more loads, and has the last place.
    """

    def __init__(self, recipe: Recipe, num_readers: int) -> None:
        with sharing():
            self._shared = _SharedInForce(recipe), _SharedInForce(recipe)
            self._refused = _Cell()
            self._swaps_2 = reserve((2,), np.int64)
            self._marks_N2 = reserve((num_readers + 1, 2), np.int64)
        self.models = self._shared
        self._swaps_2[_CURRENT] = _NONE
        self._place = num_readers

    def read_as(self, place: int) -> None:
        """Take a reader's place, in the process that is that reader."""
        self._place = place

    def is_gone(self, place: int) -> None:
        """Whoever had this place is dead, and reads nothing any more."""
        self._marks_N2[place] = 0

    def _number(self, held: InForce) -> int:
        return 0 if held is self._shared[0] else 1

    # Whoever reads ------------------------------------------------------------------------------------------------

    def current(self) -> InForce | None:
        """What is in force; None before the first weights."""
        number = int(self._swaps_2[_CURRENT])
        return None if number == _NONE else self._shared[number]

    @contextmanager
    def reading(self) -> Iterator[InForce | None]:
        """What is in force, which stays as it is for as long as this lasts; None before the first weights."""
        with super().reading() as current:
            if current is not None:
                self._shared[self._number(current)].see()
            yield current

    def _mark(self, held: InForce, reader: object) -> None:
        self._marks_N2[self._place, self._number(held)] += 1

    def _unmark(self, held: InForce, reader: object) -> None:
        self._marks_N2[self._place, self._number(held)] -= 1

    @property
    def num_swaps(self) -> int:
        """Versions that came into force."""
        return int(self._swaps_2[_NUM_SWAPS])

    @property
    def refused(self) -> str:
        """Why the newest manifest is not in use; empty if it is."""
        return self._refused.read()[1].decode(errors="replace")

    # Whoever loads ------------------------------------------------------------------------------------------------

    @property
    def other(self) -> InForce:
        """What is not in force."""
        other = self._shared[self._number(super().other)]
        other.see()
        return other

    def take(self) -> ServingModel:
        """The other's model, to be loaded; what a loader left that died is thrown away."""
        other = self._shared[self._number(self.other)]
        time.sleep(_SETTLE_S)
        while self._is_read(other):
            time.sleep(_SETTLE_S)
        was_whole = other.manifest is not None
        other.tell(Told())
        if not was_whole:
            other.model.clear()
        return other.model

    def _is_read(self, held: InForce) -> bool:
        return bool(self._marks_N2[:, self._number(held)].any())

    def put_in_force(self, manifest: Manifest) -> None:
        """The other one has been loaded, and takes its turn."""
        other = self.other
        other.tell(Told(manifest, time.time_ns() // 1_000_000))
        self._swaps_2[_CURRENT] = self._number(other)
        self._swaps_2[_NUM_SWAPS] += 1

    def refuse(self, why: str) -> None:
        """The newest manifest is not in use, or, if this is empty, it is."""
        if why != self.refused:
            self._refused.write(why.encode()[:_MAX_REFUSED])
