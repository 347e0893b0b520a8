"""Snapshots written as chunks and a list of them, and read back chunk by chunk."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from state_store.chunks.places import Places
from state_store.chunks.refs import REDIS, BlobRef, ChunkRef, StoreUnavailableError, WeightsError, chunk_name, verified

_chunks = msgspec.json.Decoder(tuple[ChunkRef, ...])
_PINNED = "pinned-"
NOT_NAMED_S = 3600
"""How long chunks last that no manifest comes to name."""


class Snapshots:
    """Writes, reads and copies snapshots.

    Args:
        places: where they lie.
        at: is told the name of each place at which a writer may be killed, for tests.
    """

    def __init__(self, places: Places, at: Callable[[str], None] = lambda _: None) -> None:
        self._places = places
        self._at = at
        self._lists: dict[BlobRef, tuple[ChunkRef, ...]] = {}
        """Of what was written here, until `forget`."""

    def put(
        self,
        name: str,
        chunks: Iterable[bytes | memoryview],
        store: str = REDIS,
        known: Mapping[str, ChunkRef] | None = None,
    ) -> BlobRef:
        """Write a snapshot, and check that it reads back whole.

        Args:
            name: first part of the names of its chunks; no other snapshot has it.
            chunks: in order.
            store: where it goes.
            known: hash -> chunk that is there already, and needs not be written again.

        Raises:
            WeightsError: something does not read back.
        """
        refs = []
        for chunk in chunks:
            made = ChunkRef(chunk_name(name, chunk), len(chunk))
            found = (known or {}).get(made.sha256)
            if found is None:
                self._write(made, bytes(chunk), store)
            refs.append(found or made)
        content = msgspec.json.encode(refs)
        of_list = ChunkRef(chunk_name(name, content), len(content))
        self._write(of_list, content, store)
        ref = BlobRef(of_list.name, sum(ref.size for ref in refs), of_list.sha256, store)
        self._lists[ref] = tuple(refs)
        return ref

    def _write(self, ref: ChunkRef, content: bytes, store: str) -> None:
        place = self._places.of(store)
        self._at("chunk.before_write")
        place.write(ref.name, content, NOT_NAMED_S)
        verified(ref.name, place.read(ref.name), ref.sha256, store)
        self._at("chunk.written")

    def chunks(self, ref: BlobRef) -> tuple[ChunkRef, ...]:
        """The list of a snapshot's chunks.

        Raises:
            WeightsError: it is gone, its hash is not the manifest's, or it is a former release's snapshot.
        """
        if ref in self._lists:
            return self._lists[ref]
        content = verified(ref.name, self._places.of(ref.store).read(ref.name), ref.sha256, ref.store)
        try:
            return _chunks.decode(content)
        except msgspec.MsgspecError as exc:
            raise WeightsError(
                f"weights blob {ref.name!r} is no list of chunks: a former release has published it. A learner of this "
                "one publishes anew"
            ) from exc

    def read(self, ref: BlobRef) -> Iterator[bytes]:
        """A snapshot's chunks, each verified; one is held at a time.

        Raises:
            WeightsError: one is gone, or its hash is not what the list says.
        """
        place = self._places.of(ref.store)
        for chunk in self.chunks(ref):
            yield verified(chunk.name, place.read(chunk.name), chunk.sha256, ref.store)

    def names(self, refs: Iterable[BlobRef], store: str) -> set[str]:
        """Everything in a store that snapshots consist of.

        One whose list is gone or damaged can never be read again: nothing stays for it.
        """
        found = set()
        for ref in refs:
            if ref.store == store:
                found.add(ref.name)
                found |= {chunk.name for chunk in self._chunks_if_any(ref)}
        return found

    def _chunks_if_any(self, ref: BlobRef) -> tuple[ChunkRef, ...]:
        try:
            return self.chunks(ref)
        except StoreUnavailableError:
            raise
        except WeightsError:
            return ()

    def forget(self, but: Iterable[BlobRef]) -> None:
        """Drop from memory the lists of snapshots other than these."""
        stay = set(but)
        self._lists = {ref: chunks for ref, chunks in self._lists.items() if ref in stay}

    # Copies that stay -----------------------------------------------------------------------------------------------

    def pin(self, ref: BlobRef) -> BlobRef:
        """Copy a snapshot where it lies, to stay whatever is retired; what was copied before is shared.

        Raises:
            WeightsError: something of it is gone already.
        """
        place, refs = self._places.of(ref.store), []
        for chunk in self.chunks(ref):
            pinned = ChunkRef(_PINNED + chunk.name, chunk.size)
            if not place.copy(chunk.name, pinned.name):
                raise WeightsError(f"weights blob {chunk.name!r} is gone from {ref.store}; load the newest manifest")
            refs.append(pinned)
        content = msgspec.json.encode(refs)
        of_list = ChunkRef(chunk_name(f"{_PINNED}{ref.name.rpartition('-')[0]}", content), len(content))
        place.write(of_list.name, content, None)
        return msgspec.structs.replace(ref, name=of_list.name, sha256=of_list.sha256)

    def unpin(self, refs: Iterable[BlobRef], kept: Iterable[BlobRef]) -> None:
        """Remove copies, but for what others share."""
        gone, stay = [*refs], [*kept]
        for store in {ref.store for ref in gone}:
            self._places.of(store).delete(self.names(gone, store) - self.names(stay, store))
