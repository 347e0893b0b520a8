"""Versioned weights in Redis: immutable blobs, one manifest put in force by compare-and-set."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from mmap import MADV_DONTNEED, mmap
from typing import Any

import msgspec
import redis

from state_store.client import script
from state_store.keys import Keys
from state_store.rollout import RolloutStore


class WeightsError(RuntimeError):
    """A blob of weights is missing or does not match its hash."""


class BlobRef(msgspec.Struct, frozen=True):
    """Name, size and hash of a blob."""

    name: str
    size: int
    sha256: str


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
_PART = 1 << 20
"""Bytes read at a time."""


def give_back(blob: mmap, pause: Callable[[], object]) -> None:
    """Give the memory of a blob that nobody reads any more back to the system, with pauses."""
    for at in range(0, len(blob), _PART):
        blob.madvise(MADV_DONTNEED, at, min(_PART, len(blob) - at))
        pause()


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
    """Publishes and fetches weights."""

    def __init__(self, client: redis.Redis, prefix: str, *, keep_s: int = 3600) -> None:
        self._client = client
        self.prefix = prefix
        self._keys = Keys(prefix)
        self._keep_s = keep_s
        self.rollouts = RolloutStore(client, prefix)
        """Which of them are to be served."""
        self._keep = script(client, "keep")
        self._publish = script(client, "publish")
        self._increase = script(client, "increase")

    def open_epoch(self) -> int:
        """Become the owner: an older owner's manifests are refused from now on."""
        return int(self._increase(keys=[self._keys.weights_epoch], args=[1]))

    def check_writable(self) -> None:
        """Have Redis refuse now what it would refuse of a blob, before one is made at some cost."""
        self._client.set(self._keys.blob("probe"), 1, px=1000)

    def put(self, name: str, blob: bytes) -> BlobRef:
        """Store a blob and check that it reads back whole. Blobs that no manifest names expire after `keep_s`."""
        key = self._keys.blob(name)
        self._client.set(key, blob, ex=self._keep_s)
        ref = BlobRef(name, len(blob), sha256(blob).hexdigest())
        self.get(ref)
        return ref

    def get(self, ref: BlobRef) -> bytes:
        """Fetch a blob and verify it.

        Raises:
            WeightsError: the blob is gone, or its hash is not the manifest's.
        """
        blob: Any = self._client.get(self._keys.blob(ref.name))
        if blob is None:
            raise WeightsError(f"weights blob {ref.name!r} is gone from Redis; load the newest manifest")
        if sha256(blob).hexdigest() != ref.sha256:
            raise WeightsError(f"weights blob {ref.name!r}: sha256 differs from its manifest's {ref.sha256}")
        return bytes(blob)

    def fetch(self, ref: BlobRef) -> mmap:
        """The same in parts, for a process that does other things meanwhile: none of them holds it up for long.

        Memory of its own, which `give_back` gives back in parts, too.

        Raises:
            WeightsError: the blob is gone, or its hash is not the manifest's.
        """
        blob, digest, key = mmap(-1, max(ref.size, 1)), sha256(), self._keys.blob(ref.name)
        for at in range(0, ref.size, _PART):
            part: Any = self._client.getrange(key, at, at + _PART - 1)
            if len(part) != min(_PART, ref.size - at):
                raise WeightsError(f"weights blob {ref.name!r} is gone from Redis, or cut; load the newest manifest")
            blob[at : at + len(part)] = part
            digest.update(part)
        if digest.hexdigest() != ref.sha256:
            raise WeightsError(f"weights blob {ref.name!r}: sha256 differs from its manifest's {ref.sha256}")
        return blob

    def pin(self, manifest: Manifest) -> Manifest:
        """Keep a manifest's blobs beyond their use, as copies made by Redis itself; returns the manifest of the copies.

        Raises:
            WeightsError: a blob is gone already.
        """
        base, *deltas = (self._copy(ref) for ref in (manifest.base, *manifest.deltas))
        return msgspec.structs.replace(manifest, base=base, deltas=tuple(deltas))

    def _copy(self, ref: BlobRef) -> BlobRef:
        name = f"pinned-{ref.name}"
        copied = self._client.copy(self._keys.blob(ref.name), self._keys.blob(name), replace=True)
        if not copied:
            raise WeightsError(f"weights blob {ref.name!r} is gone from Redis; load the newest manifest")
        self._client.persist(self._keys.blob(name))
        return msgspec.structs.replace(ref, name=name)

    def unpin(self, manifests: Iterable[Manifest], kept: Iterable[Manifest]) -> None:
        """Delete the copies of manifests, but for blobs that other pinned ones share."""
        names = {ref.name for manifest in manifests for ref in (manifest.base, *manifest.deltas)}
        names -= {ref.name for manifest in kept for ref in (manifest.base, *manifest.deltas)}
        for name in names:
            self._client.delete(self._keys.blob(name))

    def retire(self, refs: tuple[BlobRef, ...]) -> None:
        """Let blobs that no new manifest names expire; a scorer that is still loading them has time to finish."""
        with self._client.pipeline(transaction=False) as pipe:
            for ref in refs:
                pipe.expire(self._keys.blob(ref.name), self._keep_s)
            pipe.execute()

    # What is kept ---------------------------------------------------------------------------------------------------

    def kept(self) -> list[Manifest]:
        """Full versions whose blobs stay, oldest first."""
        found = self._client.get(self._keys.kept_weights)
        return list(_manifests.decode(found)) if found is not None else []

    def keep(
        self, manifest: Manifest, *, most: int = 5, every_ms: int = 0, protected: frozenset[int] = frozenset()
    ) -> list[Manifest]:
        """Keep a full version that has just been published; its blob is shared with what is in force.

        Args:
            manifest: of the version.
            most: how many are kept, but for protected ones.
            every_ms: how far they lie apart, see `thinned`.
            protected: versions that stay in any case.

        Returns:
            what is kept now, oldest first; what is not expires.
        """
        before = [kept for kept in self.kept() if kept.version < manifest.version]
        after = thinned([*before, manifest], most, every_ms, protected)
        self._write_kept(after, manifest.epoch, [kept for kept in before if kept not in after])
        return after

    def forget_checkpoints(self, behind: int, folder: str, epoch: int) -> list[Manifest]:
        """A run folder's checkpoints behind a number are gone: no learner can go back to them. Returns what is kept."""
        after = [
            msgspec.structs.replace(m, checkpoint=0) if m.folder == folder and m.checkpoint > behind else m
            for m in self.kept()
        ]
        self._write_kept(after, epoch, [])
        return after

    def _write_kept(self, kept: Sequence[Manifest], epoch: int, gone: Iterable[Manifest]) -> None:
        blobs = [self._keys.blob(manifest.base.name) for manifest in gone]
        keys = [self._keys.kept_weights, self._keys.weights_epoch, *blobs]
        self._keep(keys=keys, args=[msgspec.json.encode(kept), epoch, self._keep_s])

    # What is in force -----------------------------------------------------------------------------------------------

    def publish(self, manifest: Manifest) -> bool:
        """Put a manifest in force; False if a newer version or owner is there already."""
        blobs = [self._keys.blob(ref.name) for ref in (manifest.base, *manifest.deltas)]
        done = self._publish(
            keys=[self._keys.manifest, self._keys.weights_epoch, *blobs],
            args=[msgspec.json.encode(manifest), manifest.version, manifest.epoch, self._keys.weights_channel],
        )
        return bool(done)

    def latest(self) -> Manifest | None:
        """The manifest in force."""
        found = self._client.get(self._keys.manifest)
        return _manifest.decode(found) if found is not None else None
