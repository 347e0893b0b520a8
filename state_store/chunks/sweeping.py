"""Chunks that nothing names any more are let go: what there is, less what the manifests name.

Nothing depends on what was done before, so whoever is killed leaves nothing behind for good.
"""

from collections.abc import Callable, Collection

from state_store.chunks.places import Places
from state_store.chunks.refs import REDIS, BlobRef
from state_store.chunks.snapshots import Snapshots


class Sweeper:
    """Removes chunks for an owner.

    Args:
        places: where they lie.
        snapshots: knows what each consists of.
        epoch: of the owner.
        last_s: how long a chunk stays that nothing names: scorers may still be loading it.
    """

    def __init__(self, places: Places, snapshots: Snapshots, epoch: int, last_s: int) -> None:
        self._places = places
        self._snapshots = snapshots
        self._epoch = epoch
        self._last_s = last_s
        self._since: dict[str, int] = {}
        """Object -> wall clock, ms, since when it has been seen that nothing names it."""

    def sweep(self, named: Collection[BlobRef], store: str, now_ms: int, is_owner: Callable[[], bool]) -> None:
        """Let go what is named no more.

        Args:
            named: snapshots that stay.
            store: where full ones are written.
            now_ms: wall clock.
            is_owner: asked before objects are removed, as an object store cannot tell owners apart. An owner that is
                taken over right then removes nothing that its successor uses: that shares chunks with versions in
                force only, which this one knows, and gives all others names of its own.
        """
        place = self._places.redis
        place.retire(place.names() - self._snapshots.names(named, REDIS), self._epoch, self._last_s)
        if store != REDIS:
            idle = self._places.of(store).names() - self._snapshots.names(named, store)
            self._since = {name: self._since.get(name, now_ms) for name in idle}
            self._remove_old(store, now_ms, is_owner)
        self._snapshots.forget(named)

    def _remove_old(self, store: str, now_ms: int, is_owner: Callable[[], bool]) -> None:
        old = [name for name, since_ms in self._since.items() if now_ms - since_ms >= self._last_s * 1000]
        if old and is_owner():
            self._places.of(store).delete(old)
            self._since = {name: since_ms for name, since_ms in self._since.items() if name not in old}
