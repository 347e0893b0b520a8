"""Where chunks lie: in Redis, or in an object store by fsspec."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, Protocol

import redis

from state_store.chunks.refs import REDIS, StoreUnavailableError
from state_store.client import script
from state_store.errors import OperatorError
from state_store.keys import Keys

_PER_CALL = 500
"""Chunks that one call retires."""


class NoObjectStoreError(OperatorError):
    """A package that an object store needs is missing."""


class Place(Protocol):
    """Bytes by name. What Redis or an object store refuses is raised as it is, or as a `StoreUnavailableError`."""

    def write(self, name: str, content: bytes, keep_s: int | None) -> None:
        """Store a chunk, for so long if that is possible: a manifest that comes to name it makes it stay."""

    def read(self, name: str) -> bytes | None:
        """A chunk; None if there is none."""

    def copy(self, name: str, to: str) -> bool:
        """Copy a chunk where it lies, to stay; False if there is none."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove chunks at once."""

    def names(self) -> set[str]:
        """Chunks that stay until they are retired."""


class RedisPlace:
    """Strings of Redis.

    Args:
        client: Redis.
        keys: of the pipeline.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._retire = script(client, "retire")

    def write(self, name: str, content: bytes, keep_s: int | None) -> None:
        """Store a chunk for `keep_s`, or to stay; `publish` makes it stay."""
        self._client.set(self._keys.blob(name), content, ex=keep_s)

    def read(self, name: str) -> bytes | None:
        """A chunk; None if there is none."""
        found: Any = self._client.get(self._keys.blob(name))
        return None if found is None else bytes(found)

    def copy(self, name: str, to: str) -> bool:
        """Copy a chunk, to stay; False if there is none."""
        if not self._client.copy(self._keys.blob(name), self._keys.blob(to), replace=True):
            return False
        self._client.persist(self._keys.blob(to))
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Remove chunks at once."""
        for name in names:
            self._client.delete(self._keys.blob(name))

    def names(self) -> set[str]:
        """Chunks that manifests have named, and that are not retired."""
        found: Any = self._client.smembers(self._keys.chunks)
        return {name.decode() for name in found}

    def retire(self, names: Collection[str], epoch: int, last_s: int) -> None:
        """Let chunks go after `last_s`, unless a newer owner than `epoch` has announced itself."""
        ordered = sorted(names)
        for at in range(0, len(ordered), _PER_CALL):
            some = ordered[at : at + _PER_CALL]
            keys = [self._keys.weights_epoch, self._keys.chunks, *map(self._keys.blob, some)]
            self._retire(keys=keys, args=[epoch, last_s, *some])


class ObjectPlace:
    """Files below a folder of an object store: chunks of versions, and copies that stay.

    Args:
        url: of the folder.
        prefix: of the pipeline; several may share a folder.

    Raises:
        NoObjectStoreError: a package is missing.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._files = _file_system(url)
        self._folder = f"{self._files._strip_protocol(url.rstrip('/'))}/{prefix}"

    def _path(self, name: str) -> str:
        folder = "pinned" if name.startswith("pinned-") else "chunks"
        return f"{self._folder}/{folder}/{name}"

    def _do(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        # A client of fsspec raises whatever the library beneath it does.
        except Exception as exc:
            raise StoreUnavailableError(
                f"publish.store {self._url} does not answer, or refuses: {type(exc).__name__}: {exc}; it is tried again"
            ) from exc

    def _if_there(self, call: Callable[[], Any]) -> Any:
        def or_none() -> Any:
            try:
                return call()
            except FileNotFoundError:
                return None

        return self._do(or_none)

    def write(self, name: str, content: bytes, keep_s: int | None) -> None:
        """Store a chunk; what no manifest comes to name is removed with what is retired."""
        self._do(lambda: self._files.pipe_file(self._path(name), content))

    def read(self, name: str) -> bytes | None:
        """A chunk; None if there is none."""
        found: bytes | None = self._if_there(lambda: self._files.cat_file(self._path(name)))
        return found

    def copy(self, name: str, to: str) -> bool:
        """Copy a chunk where it lies; False if there is none."""
        done: bool | None = self._if_there(lambda: self._files.cp_file(self._path(name), self._path(to)) or True)
        return bool(done)

    def delete(self, names: Iterable[str]) -> None:
        """Remove chunks at once; one that is gone already does no harm."""
        for name in names:
            self._if_there(partial(self._files.rm_file, self._path(name)))

    def names(self) -> set[str]:
        """All chunks, whether a manifest names them or not."""
        self._files.invalidate_cache()
        found = self._if_there(lambda: self._files.ls(f"{self._folder}/chunks", detail=False))
        return {path.rpartition("/")[2] for path in found or ()}


def _file_system(url: str) -> Any:
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return fsspec.filesystem(protocol, **({"auto_mkdir": True} if protocol == "file" else {}))
    except ImportError as exc:
        raise NoObjectStoreError(
            f"publish.store is {url!r}, and a package is missing ({exc}): pip install 'coldstream[{protocol}]'"
        ) from exc


class Places:
    """Places by the names that references have for them; each is opened when it is asked for.

    Args:
        client: Redis.
        keys: of the pipeline.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._prefix = keys.prefix
        self.redis = RedisPlace(client, keys)
        self._objects: dict[str, ObjectPlace] = {}

    def of(self, store: str) -> Place:
        """The place of a store.

        Raises:
            NoObjectStoreError: a package is missing.
        """
        return self.redis if store == REDIS else self.objects(store)

    def objects(self, store: str) -> ObjectPlace:
        """The place of a store that is not Redis."""
        if store not in self._objects:
            self._objects[store] = ObjectPlace(store, self._prefix)
        return self._objects[store]
