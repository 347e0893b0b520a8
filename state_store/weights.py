"""Versioned weights: snapshots in immutable chunks, one manifest put in force by compare-and-set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import redis

from state_store.chunks.places import NoObjectStoreError, Places
from state_store.chunks.refs import REDIS, BlobRef, ChunkRef, ChunksGoneError, StoreUnavailableError, WeightsError
from state_store.chunks.snapshots import Snapshots
from state_store.chunks.sweeping import Sweeper
from state_store.client import script
from state_store.entities.codebooks import CodebookStore
from state_store.keys import Keys
from state_store.rollout import RolloutStore


class Way(msgspec.Struct, frozen=True):
    """From one base to another one."""

    base: BlobRef
    """Where it begins."""
    deltas: tuple[BlobRef, ...]
    """What led from there to the other, oldest first."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The weights in force: a full snapshot, and what changed since."""

    version: int
    epoch: int
    """Owner that published it; an older owner cannot publish over a newer one."""
    created_ms: int
    """Wall clock."""
    base: BlobRef
    """Dense weights and every embedding row, at `base_version`."""
    base_version: int
    deltas: tuple[BlobRef, ...] = ()
    """Dense weights and touched rows of each later version, oldest first."""
    since: Way | None = None
    """To this base from the one before, so that whoever has that need not load a base; it lasts until the next one."""
    learned: dict[str, int] = {}
    """Partition -> sequence number of the last sample these weights learned from."""
    num_samples: int = 0
    learned_ts: int = 0
    """Event time of the samples that were learned last, ms; 0 if not known."""
    metrics: dict[str, float] = {}
    checkpoint: int = 0
    """Number of the learner's last durable checkpoint before them; 0: there is none, or it is gone."""
    folder: str = ""
    """Id of the run folder that has it."""


_manifest = msgspec.json.Decoder(Manifest)
_manifests = msgspec.json.Decoder(tuple[Manifest, ...])


def blobs_of(manifests: Iterable[Manifest]) -> set[BlobRef]:
    """Every snapshot that manifests name."""
    found = set()
    for manifest in manifests:
        found |= {manifest.base, *manifest.deltas}
        if manifest.since is not None:
            found |= {manifest.since.base, *manifest.since.deltas}
    return found


def thinned(kept: Sequence[Manifest], most: int, every_ms: int, protected: frozenset[int]) -> list[Manifest]:
    """Which of some versions stay: the newest, and so many before it that lie apart; the protected ones besides.

    Args:
        kept: oldest first.
        most: how many stay, but for protected ones.
        every_ms: the newest takes the place of the one before it until that is so much younger than its own
            predecessor.
        protected: versions that stay in any case.
    """
    *older, newest = kept
    if len(older) > 1 and older[-1].created_ms - older[-2].created_ms < every_ms and older[-1].version not in protected:
        del older[-1]
    free = [manifest for manifest in (*older, newest) if manifest.version not in protected]
    gone = {manifest.version for manifest in free[: max(0, len(free) - most)]}
    return [manifest for manifest in (*older, newest) if manifest.version not in gone]


class WeightStore:
    """Publishes and fetches weights.

    Args:
        client: Redis.
        prefix: of the pipeline's keys.
        store: where whoever publishes writes the chunks of full snapshots; readers are told by each reference.
        at: is told the name of each place at which a writer may be killed, for tests.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        *,
        store: str = REDIS,
        at: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self.prefix = prefix
        self.store = store
        self._keys = Keys(prefix)
        self._places = Places(client, self._keys)
        self._at = at
        self._snapshots = Snapshots(self._places, at)
        self._unnamed: list[BlobRef] = []
        """Written, and not named by a manifest yet."""
        self.rollouts = RolloutStore(client, prefix)
        """Which of them are to be served."""
        self.codebooks = CodebookStore(client, prefix)
        """What samples are encoded by."""
        self._keep = script(client, "keep")
        self._publish = script(client, "publish")
        self._increase = script(client, "increase")

    def open_epoch(self) -> int:
        """Become the owner: an older owner's manifests are refused from now on."""
        return int(self._increase(keys=[self._keys.weights_epoch], args=[1]))

    def check_writable(self) -> None:
        """Have Redis refuse now what it would refuse of a blob, before one is made at some cost."""
        self._client.set(self._keys.blob("probe"), 1, px=1000)

    def put(self, name: str, chunks: Iterable[bytes | memoryview]) -> BlobRef:
        """Store a snapshot in Redis, and check that it reads back whole. What no manifest comes to name expires.

        Args:
            name: first part of its chunks' names; no other snapshot has it.
            chunks: in order, each at most 4 MiB.
        """
        ref = self._snapshots.put(name, chunks)
        self._unnamed.append(ref)
        return ref

    def put_base(self, name: str, chunks: Iterable[bytes | memoryview], like: BlobRef | None) -> BlobRef:
        """The same of a full snapshot, in `store`, but for the chunks that another one in force has already."""
        ref = self._snapshots.put(name, chunks, self.store, self._known(like))
        self._unnamed.append(ref)
        return ref

    def _known(self, like: BlobRef | None) -> Mapping[str, ChunkRef]:
        """Chunks of a snapshot that is in force, by hash, as far as they are there.

        Those of others are never shared, even if they lie there: somebody may be removing them.
        """
        if like is None or like.store != self.store:
            return {}
        try:
            chunks, there = self._snapshots.chunks(like), self._places.of(self.store).names()
        except StoreUnavailableError:
            raise
        except WeightsError:
            return {}
        return {chunk.sha256: chunk for chunk in chunks if chunk.name in there}

    def read(self, ref: BlobRef) -> Iterator[bytes]:
        """A snapshot's chunks, each verified; one is held at a time.

        Raises:
            WeightsError: one is gone, or its hash is not what the manifest leads to.
        """
        return self._snapshots.read(ref)

    def pin(self, manifest: Manifest) -> Manifest:
        """Keep a manifest's snapshots beyond their use, as copies made where they lie; returns that of the copies.

        Raises:
            WeightsError: a chunk is gone already.
        """
        base, *deltas = (self._snapshots.pin(ref) for ref in (manifest.base, *manifest.deltas))
        return msgspec.structs.replace(manifest, base=base, deltas=tuple(deltas), since=None)

    def unpin(self, manifests: Iterable[Manifest], kept: Iterable[Manifest]) -> None:
        """Delete the copies of manifests, but for chunks that other pinned ones share."""
        self._snapshots.unpin(blobs_of(manifests), blobs_of(kept))

    def sweeper(self, epoch: int, last_s: int) -> Sweeper:
        """Removes for an owner what no version names any more, `last_s` later."""
        return Sweeper(self._places, self._snapshots, epoch, last_s)

    def sweep(self, sweeper: Sweeper, manifest: Manifest, kept: Iterable[Manifest], now_ms: int) -> None:
        """Let go what neither the manifest in force nor kept ones name.

        Args:
            sweeper: the owner's.
            manifest: in force.
            kept: as Redis has them now.
            now_ms: wall clock.
        """
        self._at("publish.before_removal")
        sweeper.sweep(blobs_of([manifest, *kept]), self.store, now_ms, lambda: self.owner() == manifest.epoch)

    def owner(self) -> int:
        """Epoch of the newest owner."""
        return int(self._client.get(self._keys.weights_epoch) or 0)

    # What is kept ---------------------------------------------------------------------------------------------------

    def kept(self) -> list[Manifest]:
        """Full versions whose chunks stay, oldest first."""
        found = self._client.get(self._keys.kept_weights)
        return list(_manifests.decode(found)) if found is not None else []

    def keep(
        self, manifest: Manifest, *, most: int = 5, every_ms: int = 0, protected: frozenset[int] = frozenset()
    ) -> list[Manifest]:
        """Keep a full version that has just been published; its chunks are shared with what is in force.

        Args:
            manifest: of the version.
            most: how many are kept, but for protected ones.
            every_ms: how far they lie apart, see `thinned`.
            protected: versions that stay in any case.

        Returns:
            what is kept now, oldest first.
        """
        before = [kept for kept in self.kept() if kept.version < manifest.version]
        after = thinned([*before, msgspec.structs.replace(manifest, since=None)], most, every_ms, protected)
        self._write_kept(after, manifest.epoch)
        return after

    def forget_checkpoints(self, behind: int, folder: str, epoch: int) -> list[Manifest]:
        """A run folder's checkpoints behind a number are gone: no learner can go back to them. Returns what is kept."""
        after = [
            msgspec.structs.replace(m, checkpoint=0) if m.folder == folder and m.checkpoint > behind else m
            for m in self.kept()
        ]
        self._write_kept(after, epoch)
        return after

    def _write_kept(self, kept: Sequence[Manifest], epoch: int) -> None:
        self._keep(keys=[self._keys.kept_weights, self._keys.weights_epoch], args=[msgspec.json.encode(kept), epoch])

    # What is in force -----------------------------------------------------------------------------------------------

    def publish(self, manifest: Manifest) -> bool:
        """Put a manifest in force; False if a newer version or owner is there already.

        Raises:
            ChunksGoneError: a chunk that it names is gone from Redis.
        """
        self._at("publish.before_manifest")
        names = sorted(self._snapshots.names(blobs_of([manifest]) & set(self._unnamed), REDIS))
        done = self._publish(
            keys=[self._keys.manifest, self._keys.weights_epoch, self._keys.chunks, *map(self._keys.blob, names)],
            args=[msgspec.json.encode(manifest), manifest.version, manifest.epoch, self._keys.weights_channel, *names],
        )
        if done < 0:
            raise ChunksGoneError(
                f"a chunk of weights {manifest.version} is gone from Redis: everything is written anew. Redis must not "
                "evict keys: its maxmemory-policy has to be noeviction"
            )
        if done:
            self._unnamed = []
        return bool(done)

    def latest(self) -> Manifest | None:
        """The manifest in force."""
        found = self._client.get(self._keys.manifest)
        return _manifest.decode(found) if found is not None else None


__all__ = [
    "BlobRef",
    "ChunksGoneError",
    "Manifest",
    "NoObjectStoreError",
    "StoreUnavailableError",
    "Way",
    "WeightStore",
    "WeightsError",
    "blobs_of",
    "thinned",
]
