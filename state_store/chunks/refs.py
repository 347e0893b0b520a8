"""What names chunks, and what is wrong with them."""

from hashlib import sha256

import msgspec

REDIS = "redis"
"""The store that a pipeline has anyway."""


class WeightsError(RuntimeError):
    """A chunk of weights is missing or does not match its hash."""


class ChunksGoneError(WeightsError):
    """Chunks that a new version was to share with the one before are there no more."""


class StoreUnavailableError(WeightsError):
    """The object store does not answer, or refuses; it may do later."""


class ChunkRef(msgspec.Struct, frozen=True, array_like=True):
    """A chunk: at most 4 MiB, of which the name says what is in it."""

    name: str
    """Of the owner and version that wrote it, and its hash: another owner writes over nothing."""
    size: int

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return self.name.rpartition("-")[2]


class BlobRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot: the list of its chunks."""

    name: str
    """Of the list, which lies with the chunks."""
    size: int
    """Bytes of all chunks."""
    sha256: str
    """Of the list, and so, as that has theirs, of everything."""
    store: str = REDIS
    """Where they lie."""


def chunk_name(prefix: str, content: bytes | memoryview) -> str:
    """The name of a chunk.

    >>> chunk_name("1-2", b"")[:12]
    '1-2-e3b0c442'
    """
    return f"{prefix}-{sha256(content).hexdigest()}"


def verified(name: str, found: bytes | None, digest: str, store: str) -> bytes:
    """What was found under a name, if it is what should be there.

    Raises:
        WeightsError: it is not.
    """
    where = "Redis" if store == REDIS else store
    if found is None:
        raise WeightsError(f"weights blob {name!r} is gone from {where}; load the newest manifest")
    if sha256(found).hexdigest() != digest:
        raise WeightsError(f"weights blob {name!r} in {where}: sha256 differs from its manifest's {digest}")
    return found
