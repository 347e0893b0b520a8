"""The newest verified weights: loaded beside those in use, by the rows that changed where that is enough."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from learner.named import ArraysError
from learner.recipe import Recipe
from state_store.rollout import DamagedRolloutError, Rollout
from state_store.weights import BlobRef, Manifest, WeightsError, WeightStore
from stream.serving.turns.local import InForce, LocalTurns, Turns

log = logging.getLogger("coldstream.serving")

_PAUSE_S = 0.0002
"""Between slices: long enough for the other threads to take the interpreter."""
_AHEAD_BYTES = 16 << 20
"""Of increments that are held at a time; whatever else is loaded is held one chunk at a time."""


class Versions:
    """The newest verified weights, or the pinned ones, for any number that read and one that loads.

    Args:
        weights: where they are published.
        recipe: of the learner that publishes.
        turns: the models, where processes share them.
    """

    def __init__(self, weights: WeightStore, recipe: Recipe, turns: Turns | None = None) -> None:
        self._weights = weights
        self._loading = threading.Lock()
        self._turns = turns if turns is not None else LocalTurns(recipe)
        self._newest: Manifest | None = None
        """The newest that was in force: what is older is never followed, but it may be pinned."""
        self.rollout = Rollout()
        """What was decided, as of the last look."""

    @property
    def manifest(self) -> Manifest | None:
        """What is in force; None before the first weights."""
        with self._turns.reading() as current:
            return current.manifest if current is not None else None

    @property
    def loaded_ms(self) -> int:
        """Wall clock at which they came into force; 0 before."""
        with self._turns.reading() as current:
            return current.loaded_ms if current is not None else 0

    @property
    def num_swaps(self) -> int:
        """Versions that came into force."""
        return self._turns.num_swaps

    @property
    def refused(self) -> str:
        """Why the newest manifest is not in use; empty if it is."""
        return self._turns.refused

    def reading(self) -> AbstractContextManager[InForce | None]:
        """What is in force, which stays as it is for as long as this lasts; None before the first weights."""
        return self._turns.reading()

    def refresh(self) -> bool:
        """Load what is pinned, or else the newest weights, if they are not in use; returns whether it did.

        One thread at a time; it blocks.

        Raises:
            WeightsError: a blob is missing or damaged, the manifest is older than the weights in use, or what is pinned
                is not kept; the weights in use stay.
        """
        return self._refresh(self._wanted)

    def take(self, wanted: Manifest) -> bool:
        """Load certain weights if they are not in use, be they newer or older; returns whether it did.

        Raises:
            WeightsError: a blob is missing or damaged; the weights in use stay.
        """
        held = self.manifest
        is_held = held is not None and held.version == wanted.version
        return self._refresh(lambda: None if is_held else wanted)

    def _refresh(self, choose: Callable[[], Manifest | None]) -> bool:
        with self._loading:
            try:
                wanted = choose()
                if wanted is None:
                    self._turns.refuse("")
                    return False
                self._load(wanted)
            except (WeightsError, ArraysError) as exc:
                self._turns.refuse(str(exc))
                raise
            if self._newest is None or _place(wanted) > _place(self._newest):
                self._newest = wanted
            self._turns.refuse("")
            return True

    def _wanted(self) -> Manifest | None:
        """What is to come into force; None if nothing is."""
        try:
            self.rollout = self._weights.rollouts.read()
        except DamagedRolloutError as exc:
            raise WeightsError(str(exc)) from exc
        held = self.manifest
        if self.rollout.pinned:
            return self._pinned(self.rollout.pinned, held)
        newest = self._weights.latest()
        if newest is None or (held is not None and _place(newest) == _place(held)):
            return None
        if self._newest is not None:
            _need_newer(newest, self._newest)
        return newest

    def _pinned(self, version: int, held: Manifest | None) -> Manifest | None:
        # One that is in force as base and increments is the kept one in other pieces.
        if held is not None and held.version == version:
            return None
        found = next((manifest for manifest in self._weights.kept() if manifest.version == version), None)
        if found is None:
            raise WeightsError(
                f"weights {version} are pinned, but not kept: they are not loaded. `coldstream weights list` says what "
                "is kept, `coldstream weights unpin` goes on to the newest"
            )
        return found

    def _load(self, newest: Manifest) -> None:
        held, since = self._turns.other.manifest, newest.since
        missing = _missing(held, newest.base, newest.deltas)
        if missing is not None:
            self._take_in(missing, newest)
            return
        before = _missing(held, since.base, since.deltas) if since is not None else None
        if before is not None:
            try:
                self._take_in((*before, *newest.deltas), newest)
                return
            except WeightsError as exc:
                log.warning("weights %d are loaded as a whole: %s", newest.version, exc)
        self._take_in((newest.base, *newest.deltas), newest, whole=True)

    def _take_in(self, refs: Sequence[BlobRef], newest: Manifest, *, whole: bool = False) -> None:
        """Load snapshots into the model that is not in force, chunk by chunk, and put it in force.

        Args:
            refs: on top of what it holds, or from the first one on.
            newest: what it holds then.
            whole: whether the first is a full one.
        """
        ahead = self._fetch_ahead(refs[whole:])
        model = self._turns.take()
        for n, ref in enumerate(refs):
            chunks = ahead.get(ref) or self._weights.read(ref)
            model.load(chunks, alone=whole and n == 0, pause=_let_others_go_on)
        self._turns.put_in_force(newest)

    def _fetch_ahead(self, refs: Sequence[BlobRef]) -> dict[BlobRef, list[bytes]]:
        """Increments that are small, verified: what is wrong with them is found before a model is touched."""
        found: dict[BlobRef, list[bytes]] = {}
        left = _AHEAD_BYTES
        for ref in refs:
            left -= ref.size
            if left < 0:
                break
            found[ref] = [*self._weights.read(ref)]
        return found


def _let_others_go_on() -> None:
    """Hand the interpreter's lock to whoever waits for it."""
    time.sleep(_PAUSE_S)


def _missing(held: Manifest | None, base: BlobRef, deltas: tuple[BlobRef, ...]) -> tuple[BlobRef, ...] | None:
    """What leads from the weights that are held to the last of some increments; None if they do not."""
    if held is None or held.base != base or deltas[: len(held.deltas)] != held.deltas:
        return None
    return deltas[len(held.deltas) :]


def _place(manifest: Manifest) -> tuple[int, int]:
    """Manifests in the order in which they came into force."""
    return manifest.epoch, manifest.version


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
