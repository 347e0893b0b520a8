"""The layout of samples between worker and learner: columns that `numpy.frombuffer` turns into arrays.

    entry   header | texts | keys | rows
    header  magic `CSC1`, tag of the layout, number of samples, bytes of the texts, bytes of the keys
    texts   per sample five msgpack strings or nils: impression, user, item, domain, stage
    keys    of the values of multi-valued fields, sample by sample and field by field, 8 bytes each
    rows    of fixed length, one per sample: what the join says, what the impression says, the state as of it

Where histories are declared, the magic is `CSC3`, the header also has the bytes of their entries (`HISTORY_ENTRY`),
which stand before the rows, and a row ends with where each history of the sample begins among them, and how many it
has: samples of one user share them.

All numbers are little endian. The worker packs what an impression says (its core: tag, sizes, number of actions, texts,
keys, the middle of the row); the state store's script (`state_store/lua/apply`) puts the join's words before it, the
state behind it, and the columns together. The tag is a hash of the layout's version and of the declared fields,
actions and histories: columns of one layout are never read by another.
"""

import struct
from collections.abc import Sequence
from functools import cached_property
from itertools import count

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from learner.config import BY_SAMPLE, FieldSettings, HistorySettings
from learner.samples.keys import NO_KEY, KeyCache, arm_key

MAGIC, HISTORY_MAGIC = b"CSC1", b"CSC3"
FORMER_HISTORY_MAGIC = b"CSC2"
"""Of entries in which each sample has its histories for itself, in order, and no row says where."""
MAGICS = MAGIC, HISTORY_MAGIC, FORMER_HISTORY_MAGIC
VERSION = 2
_FORMER = 1
"""Version of samples without the columns that `_ADDED` names; they may still wait when a new version is started."""
_ADDED = ("served_arm", "served_canary", "served_other")
HEADER, HISTORY_HEADER = struct.Struct("<4sIIII"), struct.Struct("<4sIIIII")
HISTORY_ENTRY = np.dtype([("ts", "<f8"), ("item", "<u8"), ("category", "<u8")])
"""What a user did: event time, ms; keys of the item and of its category (0: none)."""
NUM_TEXTS = 5
"""Impression, user, item, domain, stage."""

FeatureValue = None | str | float | list[str]
CORE_HEAD = struct.Struct("<IIIB")
_pack = msgspec.msgpack.encode
_NO_SHOWN = (None,) * 9
_NAN = float("nan")


class Layout:
    """Columns of samples with certain fields and actions.

    Args:
        fields: declared fields, in order.
        actions: feedback that is counted, in order.
        histories: that samples carry, in order.
    """

    def __init__(
        self, fields: Sequence[FieldSettings], actions: Sequence[str], histories: Sequence[HistorySettings] = ()
    ) -> None:
        self.fields = tuple(fields)
        self.actions = tuple(actions)
        self.histories = tuple(histories)
        self.single = [n for n, field in enumerate(fields) if field.kind in {"id", "categorical"}]
        """Fields of one value, by number; these have their keys in the row."""
        self.numeric = [n for n, field in enumerate(fields) if field.kind == "numeric"]
        self.multi = [n for n, field in enumerate(fields) if field.kind == "multi"]
        self.bare_tag, self.former_tag = self._tag(VERSION), self._tag(_FORMER)
        self.tag = self._tag(VERSION, [[history.name, history.by] for history in histories])
        self.has_codes = any(history.by == BY_SAMPLE for history in histories)
        """Whether an impression also says the codes of its sample, which histories keep (`learner/sif`)."""
        columns = [*self._joined(), *self._core(), *self._state()]
        self.bare_dtype = np.dtype(columns)
        """Of samples that carry no histories."""
        starts = [("history_starts", "<u4", (len(self.histories),))] if histories else []
        sizes = [("history_sizes", "<u2", (len(self.histories),))] if histories else []
        codes = [("codes", "<u8")] if self.has_codes else []
        self.dtype = np.dtype([*self._joined(), *self._core(), *codes, *self._state(), *starts, *sizes])
        self.unshared_dtype = np.dtype([*self._joined(), *self._core(), *codes, *self._state(), *sizes])
        """Of samples that have their histories one behind the other."""
        self.former_dtype = np.dtype([column for column in columns if column[0] not in _ADDED])
        self._fixed = struct.Struct(
            "<qqQiddqQBd" + "Q" * len(self.single) + "f" * len(self.numeric) + "H" * len(self.multi) + "Q" * len(codes)
        )
        self._no_codes = (0,) * len(codes)
        self.key_caches = [KeyCache(field.name) for field in fields]
        """Of each field; those of numeric ones are not asked."""
        names = [field.name for field in fields]
        self._user, self._item = names.index("user_id"), names.index("item_id")
        self.user_column, self.item_column = self.single.index(self._user), self.single.index(self._item)
        """Columns of the ids among the keys of a row."""
        places = self._places()
        self._singles = [(places[n], self.key_caches[n].key) for n in self.single]
        self._numbers = [places[n] for n in self.numeric]
        self._multis = [(places[n], self.key_caches[n]) for n in self.multi]

    def _places(self) -> list[int]:
        """Where the value of each field stands: those of an impression's features in order, item id, user id."""
        counted = count()
        return [-1 if n == self._user else -2 if n == self._item else next(counted) for n in range(len(self.fields))]

    def _tag(self, version: int, histories: Sequence[object] = ()) -> int:
        declared: list[object] = [version, [[field.name, field.kind] for field in self.fields], self.actions]
        if histories:
            declared.append(histories)
        return int(xxh3_64_intdigest(msgspec.json.encode(declared))) & 0xFFFF_FFFF

    def _joined(self) -> list[tuple[object, ...]]:
        return [
            *((name, "<u1") for name in ("kind", "label", "labels", "known", "task")),
            ("delay_ms", "<f8"),
            ("values", "<f8", (len(self.actions),)),
        ]

    def _core(self) -> list[tuple[object, ...]]:
        return [
            ("ts", "<i8"),
            ("produced_ms", "<i8"),
            ("imp_key", "<u8"),
            ("position", "<i4"),
            ("propensity", "<f8"),
            ("served_probability", "<f8"),
            ("served_version", "<i8"),
            ("served_arm", "<u8"),
            ("served_canary", "<u1"),
            ("served_other", "<f8"),
            ("keys", "<u8", (len(self.single),)),
            ("numbers", "<f4", (len(self.numeric),)),
            ("sizes", "<u2", (len(self.multi),)),
        ]

    def _state(self) -> list[tuple[object, ...]]:
        counts = "<u4", (1 + len(self.actions),)
        return [
            ("user_counts", *counts),
            ("user_norm", "<f4"),
            ("user_norm_version", "<u4"),
            ("user_first_ts", "<f8"),
            ("user_last_ts", "<f8"),
            ("item_counts", *counts),
            ("item_norm", "<f4"),
            ("item_norm_version", "<u4"),
            ("negative_rate", "<f8"),
        ]

    @cached_property
    def core_size(self) -> int:
        """Bytes of the fixed part that the worker packs."""
        return self._fixed.size

    @cached_property
    def core_offset(self) -> int:
        """Where in a row it lies."""
        offset: int = self.dtype.fields["ts"][1]  # type: ignore[index]
        return offset

    def core_place(self, column: str) -> int:
        """Where in the fixed part that the worker packs a column is."""
        at: int = self.dtype.fields[column][1]  # type: ignore[index]
        return at - self.core_offset

    @cached_property
    def core_template(self) -> bytes:
        """The fixed part of an impression that says nothing."""
        numbers = [_NAN] * len(self.numeric)
        keys, sizes = [NO_KEY] * len(self.single), [0] * len(self.multi)
        return self._fixed.pack(0, 0, 0, *_NOT_SHOWN, *keys, *numbers, *sizes, *self._no_codes)

    @cached_property
    def bare_core_size(self) -> int:
        """Bytes of it without codes, which are the last of it."""
        return self._fixed.size - 8 * self.has_codes

    def key_offset(self, name: str) -> int:
        """Where the key of a field of one value, or `*`, the codes, is in a core's fixed part; -1 for the empty name.

        Raises:
            ValueError: there is no such field.
        """
        if not name:
            return -1
        if name == BY_SAMPLE:
            return self.bare_core_size
        names = [self.fields[n].name for n in self.single]
        return self.core_place("keys") + 8 * names.index(name)

    def widened(self, rows_B: np.ndarray) -> np.ndarray:
        """Rows of another type as today's: of what they have not it is not known, or was none.

        >>> layout = Layout([FieldSettings(name, name[:4], "id") for name in ("user_id", "item_id")], ["like"])
        >>> layout.widened(np.zeros(1, layout.former_dtype))[["served_arm", "served_canary", "served_other"]].tolist()
        [(0, 0, nan)]
        """
        found = np.zeros(len(rows_B), self.dtype)
        found["served_other"] = _NAN
        for name in rows_B.dtype.names or ():
            found[name] = rows_B[name]
        if rows_B.dtype == self.unshared_dtype != self.dtype:
            found["history_starts"] = one_behind_the_other(rows_B["history_sizes"])
        return found

    def describe(self) -> str:
        """What it is a layout of, for errors."""
        fields = ", ".join(f"{field.name} ({field.kind})" for field in self.fields)
        said = f"{self.tag:08x}: version {VERSION}, fields {fields}; actions {', '.join(self.actions)}"
        histories = ", ".join(history.name for history in self.histories)
        return f"{said}; histories {histories}" if histories else said

    def pack_core(
        self,
        imp_id: str,
        user_id: str,
        item_id: str,
        times_ms: tuple[int, int],
        values: Sequence[FeatureValue],
        shown: Sequence[object] | None = None,
    ) -> bytes:
        """What an impression itself says.

        Args:
            imp_id: the impression.
            user_id: the user.
            item_id: the item.
            times_ms: event time, and the wall clock at which it was written to the log (0: not known).
            values: of the declared fields in order, user and item id left out; None where one is missing.
            shown: domain, stage, position, propensity, served probability, served version, arm, whether canary, what
                the other version said; None where not said.
        """
        domain, stage, *others = shown or _NO_SHOWN
        text = _pack((imp_id, user_id, item_id, domain, stage))[1:]  # without the mark of an array
        given = (*values, item_id, user_id)
        sizes: list[int] = []
        keys = b""
        for at, of in self._multis:
            value = given[at]
            sizes.append(len(value) if value else 0)  # type: ignore[arg-type]
            if value:
                keys += of.packed(value)  # type: ignore[arg-type]
        fixed = self._fixed.pack(
            *times_ms,
            xxh3_64_intdigest(imp_id.encode()) or 1,
            *(_as_columns(*others) if shown else _NOT_SHOWN),  # type: ignore[arg-type]
            *[NO_KEY if given[at] is None else key(given[at]) for at, key in self._singles],  # type: ignore[arg-type]
            *[_NAN if given[at] is None else given[at] for at in self._numbers],
            *sizes,
            *self._no_codes,
        )
        return b"".join((CORE_HEAD.pack(self.tag, len(text), len(keys), len(self.actions)), text, keys, fixed))


def one_behind_the_other(sizes_BH: np.ndarray) -> np.ndarray:
    """Where the entries of each history begin, if no two samples share any.

    >>> one_behind_the_other(np.array([[2, 0], [1, 3]], np.uint16)).tolist()
    [[0, 2], [2, 3]]
    """
    ends_BH = np.cumsum(sizes_BH, dtype=np.int64).reshape(sizes_BH.shape)
    starts_BH: np.ndarray = ends_BH - sizes_BH
    return starts_BH


def _as_columns(
    position: object, propensity: object, probability: object, version: object, arm: str | None, *rest: object
) -> tuple[object, ...]:
    """How an impression was shown, but for the texts, in the form of the columns."""
    is_canary, other = rest
    return (
        -1 if position is None else position,
        _NAN if propensity is None else propensity,
        _NAN if probability is None else probability,
        -1 if version is None else version,
        arm_key(arm) if arm else 0,
        1 if is_canary else 0,
        _NAN if other is None else other,
    )


_NOT_SHOWN = _as_columns(*_NO_SHOWN[2:])
