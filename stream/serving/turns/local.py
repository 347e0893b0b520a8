"""Two models that take turns, and who reads which.

One is in force, the other catches up with newer weights. Then it is in force, and the first one is the next to catch
up, once nobody reads it any more. So a request keeps the version that it began with, nobody waits for a lock, and
nothing is copied; it costs the tables twice.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from learner.recipe import Recipe
from learner.snapshot import ServingModel
from state_store.weights import Manifest

_LOOK_S = 0.001


class Told(msgspec.Struct, frozen=True):
    """What a model holds."""

    manifest: Manifest | None = None
    """None while it holds nothing whole."""
    loaded_ms: int = 0
    """Wall clock."""


class InForce:
    """A model with the manifest that it holds."""

    def __init__(self, recipe: Recipe) -> None:
        self.model = ServingModel(recipe)
        self.told = Told()

    @property
    def manifest(self) -> Manifest | None:
        """None while it holds nothing whole."""
        return self.told.manifest

    @property
    def loaded_ms(self) -> int:
        """Wall clock."""
        return self.told.loaded_ms

    def tell(self, told: Told) -> None:
        """It holds something else."""
        self.told = told


class Turns(ABC):
    """Two models, one of them in force, for any number of readers and one that loads."""

    models: tuple[InForce, InForce]

    @property
    @abstractmethod
    def num_swaps(self) -> int:
        """Versions that came into force."""

    @property
    @abstractmethod
    def refused(self) -> str:
        """Why the newest manifest is not in use; empty if it is."""

    @abstractmethod
    def refuse(self, why: str) -> None:
        """It is not in use, or, if this is empty, it is."""

    # Whoever reads ------------------------------------------------------------------------------------------------

    @abstractmethod
    def current(self) -> InForce | None:
        """What is in force; None before the first weights."""

    @abstractmethod
    def _mark(self, held: InForce, reader: object) -> None:
        """It is read from now on."""

    @abstractmethod
    def _unmark(self, held: InForce, reader: object) -> None:
        """It is read no more."""

    @contextmanager
    def reading(self) -> Iterator[InForce | None]:
        """What is in force, which stays as it is for as long as this lasts; None before the first weights."""
        reader = object()
        while (current := self.current()) is not None:
            self._mark(current, reader)
            # Whoever loads looks for readers after it has taken a model out of force: one of both sees the other.
            if current is self.current():
                break
            self._unmark(current, reader)
        try:
            yield current
        finally:
            if current is not None:
                self._unmark(current, reader)

    # Whoever loads ------------------------------------------------------------------------------------------------

    @property
    def other(self) -> InForce:
        """What is not in force."""
        return self.models[1] if self.current() is self.models[0] else self.models[0]

    @abstractmethod
    def _is_read(self, held: InForce) -> bool:
        """Whether anybody reads it."""

    def take(self) -> ServingModel:
        """The other's model, to be loaded; it holds nothing whole from now on. Returns once nobody reads it."""
        other = self.other
        while self._is_read(other):
            time.sleep(_LOOK_S)
        other.tell(Told())
        return other.model

    @abstractmethod
    def put_in_force(self, manifest: Manifest) -> None:
        """The other one has been loaded, and takes its turn."""


class LocalTurns(Turns):
    """In one process; any of its threads may read."""

    def __init__(self, recipe: Recipe) -> None:
        self.models = InForce(recipe), InForce(recipe)
        self._current: InForce | None = None
        self._num_swaps, self._refused = 0, ""
        self._readers: tuple[set[object], set[object]] = set(), set()

    def current(self) -> InForce | None:
        """What is in force; None before the first weights."""
        return self._current

    def _readers_of(self, held: InForce) -> set[object]:
        return self._readers[0 if held is self.models[0] else 1]

    def _mark(self, held: InForce, reader: object) -> None:
        self._readers_of(held).add(reader)

    def _unmark(self, held: InForce, reader: object) -> None:
        self._readers_of(held).discard(reader)

    def _is_read(self, held: InForce) -> bool:
        return bool(self._readers_of(held))

    def put_in_force(self, manifest: Manifest) -> None:
        """The other one has been loaded, and takes its turn."""
        other = self.other
        other.tell(Told(manifest, time.time_ns() // 1_000_000))
        self._current = other
        self._num_swaps += 1

    @property
    def num_swaps(self) -> int:
        """Versions that came into force."""
        return self._num_swaps

    @property
    def refused(self) -> str:
        """Why the newest manifest is not in use; empty if it is."""
        return self._refused

    def refuse(self, why: str) -> None:
        """It is not in use, or, if this is empty, it is."""
        self._refused = why
