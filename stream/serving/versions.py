"""Weights that are in use while newer ones are loaded: two models that take turns.

One is in force, the other catches up with the newest manifest: by the rows that changed where it can, else by the whole
snapshot. Then it is in force, and the first one is the next to catch up, once nobody reads it any more. So a request
keeps the version that it began with, nobody waits for a lock, and nothing is copied; it costs the tables twice.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from learner.named import ArraysError
from learner.recipe import Recipe
from learner.snapshot import ServingModel
from state_store.weights import BlobRef, Manifest, WeightsError, WeightStore, give_back

_LOOK_S = 0.001
_PAUSE_S = 0.0002
"""Between slices: long enough for the other threads to take the interpreter."""


class InForce:
    """A model with the manifest that it holds."""

    def __init__(self, recipe: Recipe) -> None:
        self.model = ServingModel(recipe)
        self.manifest: Manifest | None = None
        """None while it holds nothing whole."""
        self.loaded_ms = 0
        """Wall clock."""
        self.readers: set[object] = set()


class Versions:
    """The newest verified weights, for any number of threads that read and one that loads.

    Args:
        weights: where they are published.
        recipe: of the learner that publishes.
    """

    def __init__(self, weights: WeightStore, recipe: Recipe) -> None:
        self._weights = weights
        self._loading = threading.Lock()
        self._turns = InForce(recipe), InForce(recipe)
        self._current: InForce | None = None
        self.num_swaps = 0
        self.refused = ""
        """Why the newest manifest is not in use; empty if it is."""

    @property
    def manifest(self) -> Manifest | None:
        """What is in force; None before the first weights."""
        current = self._current
        return current.manifest if current is not None else None

    @property
    def loaded_ms(self) -> int:
        """Wall clock at which they came into force; 0 before."""
        current = self._current
        return current.loaded_ms if current is not None else 0

    @contextmanager
    def reading(self) -> Iterator[InForce | None]:
        """What is in force, which stays as it is for as long as this lasts; None before the first weights."""
        reader = object()
        while (current := self._current) is not None:
            current.readers.add(reader)
            # Whoever loads looks for readers after it has taken a model out of force: one of both sees the other.
            if current is self._current:
                break
            current.readers.discard(reader)
        try:
            yield current
        finally:
            if current is not None:
                current.readers.discard(reader)

    def refresh(self) -> bool:
        """Load the newest weights if there are newer ones; returns whether it did. One thread at a time; it blocks.

        Raises:
            WeightsError: a blob is missing or damaged, or the manifest is older than the weights in use; those stay.
        """
        with self._loading:
            newest = self._weights.latest()
            held = self.manifest
            if newest is None or (held is not None and (newest.epoch, newest.version) == (held.epoch, held.version)):
                return False
            try:
                if held is not None:
                    _need_newer(newest, held)
                self._load(newest)
            except (WeightsError, ArraysError) as exc:
                self.refused = str(exc)
                raise
            self.refused = ""
            return True

    def _load(self, newest: Manifest) -> None:
        other = self._turns[1] if self._current is self._turns[0] else self._turns[0]
        is_whole, missing = _way(other.manifest, newest)
        # All of them are verified before the first is taken in.
        blobs = [self._weights.fetch(ref) for ref in missing]
        while other.readers:
            time.sleep(_LOOK_S)
        other.manifest = None
        for n, blob in enumerate(blobs):
            other.model.load(blob, alone=is_whole and n == 0, pause=_let_others_go_on)
            give_back(blob, _let_others_go_on)
        other.manifest, other.loaded_ms = newest, time.time_ns() // 1_000_000
        self._current = other
        self.num_swaps += 1


def _let_others_go_on() -> None:
    """Hand the interpreter's lock to whoever waits for it."""
    time.sleep(_PAUSE_S)


def _way(held: Manifest | None, newest: Manifest) -> tuple[bool, tuple[BlobRef, ...]]:
    """Whether a model has to begin anew, and the blobs that it lacks."""
    if held is not None and held.base == newest.base and newest.deltas[: len(held.deltas)] == held.deltas:
        return False, newest.deltas[len(held.deltas) :]
    return True, (newest.base, *newest.deltas)


def _need_newer(newest: Manifest, held: Manifest) -> None:
    if newest.epoch < held.epoch:
        raise WeightsError(
            f"weights {newest.version} are of an older owner (epoch {newest.epoch}, those in use are of {held.epoch}): "
            "they are not loaded. If Redis was emptied on purpose, start the scorer again"
        )
    if newest.epoch == held.epoch and newest.version < held.version:
        raise WeightsError(
            f"weights {newest.version} are older than those in use, {held.version}: they are not loaded. Redis was "
            "restored from an older snapshot; the learner goes on to publish newer ones"
        )
