"""A block of samples as arrays, and its encoding."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, compress

import msgspec
import numpy as np

from learner.samples.kind import SampleKind
from learner.samples.layout import (
    CORE_HEAD,
    FORMER_HISTORY_MAGIC,
    HEADER,
    HISTORY_ENTRY,
    HISTORY_HEADER,
    HISTORY_MAGIC,
    MAGIC,
    NUM_TEXTS,
    Layout,
)

_texts = msgspec.msgpack.Decoder(list[str | None])


class LayoutError(ValueError):
    """Columns are of another layout than the reader's."""


class Samples:
    """B samples in order.

    Args:
        layout: what the columns are.
        rows_B: of type `layout.dtype`.
        keys_M: of the values of multi-valued fields, sample by sample and field by field; `rows_B["sizes"]` says how
            many each has.
        texts: five of each sample, one after the other: impression, user, item, domain, stage; or what gives them, once
            somebody asks.
        entries_H: of histories (`HISTORY_ENTRY`), which samples share; `rows_B["history_starts"]` says where those of
            each history of each sample begin, and `rows_B["history_sizes"]` how many it has. Default: none.
    """

    def __init__(
        self,
        layout: Layout,
        rows_B: np.ndarray,
        keys_M: np.ndarray,
        texts: list[str | None] | Callable[[], list[str | None]],
        entries_H: np.ndarray | None = None,
    ) -> None:
        self.layout = layout
        self.rows_B = rows_B
        self.keys_M = keys_M
        self._texts = texts
        self.entries_H = np.zeros(0, HISTORY_ENTRY) if entries_H is None else entries_H

    def __len__(self) -> int:
        return len(self.rows_B)

    # Columns ------------------------------------------------------------------------------------------------------

    @property
    def texts(self) -> list[str | None]:
        """Five of each sample, one after the other."""
        if callable(self._texts):
            self._texts = self._texts()
        return self._texts

    @property
    def imp_ids(self) -> list[str]:
        """Impressions."""
        return self.texts[0::NUM_TEXTS]  # type: ignore[return-value]

    @property
    def user_ids(self) -> list[str]:
        """Users."""
        return self.texts[1::NUM_TEXTS]  # type: ignore[return-value]

    @property
    def item_ids(self) -> list[str]:
        """Items."""
        return self.texts[2::NUM_TEXTS]  # type: ignore[return-value]

    @property
    def user_keys(self) -> np.ndarray:
        """Keys of the users."""
        keys: np.ndarray = self.rows_B["keys"][:, self.layout.user_column]
        return keys

    @property
    def item_keys(self) -> np.ndarray:
        """Keys of the items."""
        keys: np.ndarray = self.rows_B["keys"][:, self.layout.item_column]
        return keys

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each brings a label of the main task."""
        labelled: np.ndarray = self.rows_B["kind"] <= SampleKind.CORRECTION
        return labelled

    @property
    def is_learned(self) -> np.ndarray:
        """Whether the model trains on each: on what brings a label of the main task, or settles one."""
        learned: np.ndarray = self.is_labelled | (self.rows_B["kind"] == SampleKind.SETTLED)
        return learned

    @cached_property
    def key_bounds(self) -> np.ndarray:
        """Where each sample's keys begin in `keys_M`, and the end."""
        bounds = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.rows_B["sizes"].sum(axis=1, dtype=np.int64), out=bounds[1:])
        return bounds

    # Parts --------------------------------------------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> "Samples":
        """The samples from `start` up to `stop`; arrays are shared."""
        bounds, end = self.key_bounds, min(stop, len(self))
        return Samples(
            self.layout,
            self.rows_B[start:stop],
            self.keys_M[bounds[start] : bounds[end]],
            self.texts[start * NUM_TEXTS : stop * NUM_TEXTS],
            self.entries_H,
        )

    def take(self, chosen_B: np.ndarray) -> "Samples":
        """Those where `chosen_B` (booleans) is true."""
        of_keys = np.repeat(chosen_B, np.diff(self.key_bounds))
        return Samples(
            self.layout,
            _in_one_piece(self.rows_B)[chosen_B].view(self.rows_B.dtype),
            self.keys_M[of_keys],
            lambda: list(compress(self.texts, np.repeat(chosen_B, NUM_TEXTS).tolist())),
            self.entries_H,
        )

    def own_entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and the entries that they name, without those that only other samples of the block had."""
        starts_N = self.rows_B["history_starts"].ravel().astype(np.int64)
        ends_N = starts_N + self.rows_B["history_sizes"].ravel()
        steps_E = np.bincount(starts_N, minlength=len(self.entries_H) + 1)
        is_named_E = np.cumsum(steps_E - np.bincount(ends_N, minlength=len(self.entries_H) + 1))[:-1] > 0
        moved_E = np.append(np.cumsum(is_named_E) - is_named_E, 0)
        rows_B = _in_one_piece(self.rows_B).copy().view(self.rows_B.dtype)
        rows_B["history_starts"] = moved_E[starts_N].reshape(rows_B["history_starts"].shape)
        return rows_B, _in_one_piece(self.entries_H)[is_named_E].view(HISTORY_ENTRY)

    # As bytes -----------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """One entry of an outbox, or several put together."""
        text = msgspec.msgpack.encode(self.texts)[_mark_size(len(self.texts)) :]
        sizes = self.layout.tag, len(self), len(text), self.keys_M.nbytes
        rows_B, entries_H = self.own_entries() if self.layout.histories else (self.rows_B, self.entries_H)
        if self.layout.histories:
            head = HISTORY_HEADER.pack(HISTORY_MAGIC, *sizes, entries_H.nbytes)
        else:
            head = HEADER.pack(MAGIC, *sizes)
        return b"".join((head, text, self.keys_M.tobytes(), entries_H.tobytes(), rows_B.tobytes()))


def _mark_size(length: int) -> int:
    """Bytes of the mark before a msgpack array."""
    return 1 if length < 16 else 3 if length < 1 << 16 else 5


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Blocks of one layout, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    # Each part only with what its samples name: parts of parts would drag along all that their wholes once had.
    own = [part.own_entries() if part.layout.histories else (part.rows_B, part.entries_H) for part in parts]
    entries = [entries_H for _, entries_H in own]
    rows_B = np.concatenate([_in_one_piece(rows_B) for rows_B, _ in own]).view(parts[0].rows_B.dtype)
    if parts[0].layout.histories:
        moved_by = np.cumsum([0, *(len(entries_H) for entries_H in entries[:-1])])
        rows_B["history_starts"] += np.repeat(moved_by, [len(part) for part in parts]).astype(np.uint32)[:, None]
    return Samples(
        parts[0].layout,
        rows_B,
        np.concatenate([part.keys_M for part in parts]),
        list(chain.from_iterable(part.texts for part in parts)),
        np.concatenate([_in_one_piece(entries_H) for entries_H in entries]).view(HISTORY_ENTRY),
    )


def _in_one_piece(rows_B: np.ndarray) -> np.ndarray:
    """Rows without fields, which NumPy copies in one piece: field by field takes it twenty times as long."""
    return rows_B.view(f"V{rows_B.dtype.itemsize}")


def no_samples(layout: Layout) -> Samples:
    """An empty block."""
    return Samples(layout, np.zeros(0, layout.dtype), np.zeros(0, np.uint64), [])


def decode(entry: bytes, layout: Layout) -> Samples:
    """Read an entry that begins with `MAGIC`, also one of the former version of its layout.

    Raises:
        LayoutError: it is of another layout.
    """
    is_shared, is_unshared = entry.startswith(HISTORY_MAGIC), entry.startswith(FORMER_HISTORY_MAGIC)
    has_histories = is_shared or is_unshared
    head = HISTORY_HEADER if has_histories else HEADER
    _, tag, num_samples, text_size, keys_size, *more = head.unpack_from(entry)
    if tag not in (layout.tag, layout.bare_tag, layout.former_tag) or (has_histories and tag == layout.bare_tag):
        raise LayoutError(
            f"samples of layout {tag:08x} wait, and the settings say {layout.describe()}. They were made with other "
            "[[fields]], [actions] or [[histories]]: start the learner with the settings that their worker had until "
            "they are learned"
        )
    keys_at = head.size + text_size
    entries_at = keys_at + keys_size
    rows_at = entries_at + sum(more)
    dtype = layout.former_dtype if tag == layout.former_tag else layout.bare_dtype
    dtype = layout.dtype if is_shared else layout.unshared_dtype if is_unshared else dtype
    size = rows_at + num_samples * dtype.itemsize
    if size != len(entry):
        raise LayoutError(
            f"an entry of {num_samples} samples has {len(entry)} bytes, {size} are right for layout "
            f"{layout.describe()}: it was cut, or written by something else"
        )
    # The script writes texts without the mark of an array, as it does not know their number beforehand.
    mark = b"\xdd" + (NUM_TEXTS * num_samples).to_bytes(4, "big")
    rows_B = np.frombuffer(entry, dtype, num_samples, rows_at)
    return Samples(
        layout,
        rows_B if dtype == layout.dtype else layout.widened(rows_B),
        np.frombuffer(entry, "<u8", keys_size // 8, keys_at),
        _texts.decode(mark + entry[head.size : keys_at]),
        np.frombuffer(entry, HISTORY_ENTRY, sum(more) // HISTORY_ENTRY.itemsize, entries_at),
    )


def of_cores(cores: Sequence[bytes], layout: Layout) -> Samples:
    """Samples of what impressions say (`Layout.pack_core`) without codes; what the join says, and the state, is 0."""
    size = layout.bare_dtype.itemsize
    rows = bytearray(len(cores) * size)
    at = layout.core_offset
    texts, keys = [], []
    for core in cores:
        _, text_size, keys_size, _ = CORE_HEAD.unpack_from(core)
        keys_at = CORE_HEAD.size + text_size
        fixed_at = keys_at + keys_size
        texts.append(core[CORE_HEAD.size : keys_at])
        keys.append(core[keys_at:fixed_at])
        rows[at : at + layout.bare_core_size] = core[fixed_at : fixed_at + layout.bare_core_size]
        at += size
    text, flat = b"".join(texts), b"".join(keys)
    head = HEADER.pack(MAGIC, layout.tag, len(cores), len(text), len(flat))
    samples = decode(b"".join((head, text, flat, rows)), layout)
    return Samples(layout, samples.rows_B.copy(), samples.keys_M, samples.texts)


def blocks(samples: Samples, size: int) -> Iterator[Samples]:
    """Parts of at most `size` samples."""
    for start in range(0, len(samples), size):
        yield samples.slice(start, start + size)
