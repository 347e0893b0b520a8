"""Versioned weights in Redis: immutable blobs, one manifest put in force by compare-and-set."""

from collections.abc import Callable, Iterable
from hashlib import sha256
from mmap import MADV_DONTNEED, mmap
from typing import Any

import msgspec
import redis

from state_store.client import script
from state_store.keys import Keys


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


_manifest = msgspec.json.Decoder(Manifest)
_PART = 1 << 20
"""Bytes read at a time."""


def give_back(blob: mmap, pause: Callable[[], object]) -> None:
    """Give the memory of a blob that nobody reads any more back to the system, with pauses."""
    for at in range(0, len(blob), _PART):
        blob.madvise(MADV_DONTNEED, at, min(_PART, len(blob) - at))
        pause()


class WeightStore:
    """Publishes and fetches weights."""

    def __init__(self, client: redis.Redis, prefix: str, *, keep_s: int = 3600) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._keep_s = keep_s
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
