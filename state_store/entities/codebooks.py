"""The frozen codebooks by which samples are encoded where they are joined: written by the learner, read by workers.

One hash, whose two fields are written by one command: a digest, and what encodes, as the learner gives it. Codes are
read by whoever has the weights, which have the codebooks, too.
"""

import redis
from xxhash import xxh3_64_hexdigest

from state_store.keys import Keys

_DIGEST, _BLOB = "digest", "blob"


class CodebookStore:
    """Writes and reads frozen codebooks.

    Args:
        client: Redis.
        prefix: of the pipeline's keys.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = Keys(prefix).codebooks

    def digest(self) -> str:
        """Of what is there; empty: nothing."""
        found = self._client.hget(self._key, _DIGEST)
        return found.decode() if isinstance(found, bytes) else found or ""

    def write(self, blob: bytes) -> None:
        """Put codebooks in the place of what is there, unless they are there already."""
        digest = xxh3_64_hexdigest(blob)
        if self.digest() != digest:
            self._client.hset(self._key, mapping={_DIGEST: digest, _BLOB: blob})

    def read(self) -> bytes | None:
        """What encodes; None if nothing was written yet."""
        return self._client.hget(self._key, _BLOB)  # type: ignore[return-value]
