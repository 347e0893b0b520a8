"""The frozen codebooks by which samples are encoded where they are joined: written by the learner, read by workers.

One hash, whose two fields are written by one command: the version, and what encodes, as the learner gives it. Codes are
read by whoever has the weights, which have the codebooks, too.
"""

import redis

from state_store.keys import Keys

_VERSION, _BLOB = "version", "blob"


class CodebookStore:
    """Writes and reads frozen codebooks.

    Args:
        client: Redis.
        prefix: of the pipeline's keys.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = Keys(prefix).codebooks

    def version(self) -> int:
        """The version that is there; 0: none."""
        return int(self._client.hget(self._key, _VERSION) or 0)

    def write(self, version: int, blob: bytes) -> None:
        """Put a version in the place of what is there, unless it is there already."""
        if self.version() != version:
            self._client.hset(self._key, mapping={_VERSION: version, _BLOB: blob})

    def read(self) -> bytes | None:
        """What encodes; None if nothing was written yet."""
        return self._client.hget(self._key, _BLOB)  # type: ignore[return-value]
