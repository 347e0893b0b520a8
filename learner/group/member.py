"""One process of a group: a learner of the samples of its own users, and its part of what all do together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.device.choice import chosen_device
from learner.config import Values
from learner.group.agreed import Command
from learner.group.dense import SharedDense
from learner.group.owners import owners
from learner.group.packed import learned_arrays, packed, unpacked
from learner.group.precision import precision_of
from learner.group.rows import COLUMNS, Columns, SharedRows
from learner.group.wire import Wire
from learner.learner import Learner
from learner.named import below
from learner.published.changed import Changed
from learner.published.encoding import encode_rows, take_changed
from learner.recipe import Recipe
from learner.samples.columns import Samples, decode
from learner.samples.kind import SampleKind

META = "meta"


class Counts(msgspec.Struct, frozen=True):
    """How far one process is."""

    num_samples: int
    learned_ts: int
    num_rows: int
    """Ids that have a row there."""
    num_shared: int
    """Those of them that are shared, as of the last checkpoint."""


class Encoding(msgspec.Struct, frozen=True):
    """What is to be encoded."""

    rank: int
    """By whom."""
    full: bool
    values: Values


class Member:
    """One process' part.

    Args:
        recipe: what all of them learn.
        wire: to the others.
        device: where a deep part computes; None: as `learner.device` says, each process on another GPU.
    """

    def __init__(self, recipe: Recipe, wire: Wire, device: torch.device | None = None) -> None:
        if device is None and recipe.has_deep:
            device = chosen_device(recipe.learner.device, wire.local_rank)
        self.learner = Learner(recipe, device)
        self._recipe, self._wire = recipe, wire
        if self.learner.deep is not None:
            wire.reach(self.learner.deep.device)
            self.learner.deep.average = self._average
        self.rows = _shared_rows(recipe, self.learner)
        fast = [] if self.learner.fast is None else [self.learner.fast, *self.learner.others.parts]
        self.dense = [SharedDense(part.dense, recipe.fast_recipe) for part in fast]
        self._beliefs = None if self.learner.fast is None else self.learner.fast.beliefs
        self._num_at_exchange = 0
        self._num_noted = [0] * len(self.rows)
        self.beliefs_spread = False
        """Whether other processes' users' beliefs lie here, too: since N changed, when nobody knew whose they are."""
        self._forgotten: list[np.ndarray] = []
        self.changed: Changed | None = None
        """Since the version before the last one."""
        self._ways: Mapping[Command, Callable[[bytes], bytes]] = {
            Command.LEARN: lambda said: self._learn(decode(said, recipe.layout)),
            Command.EXCHANGE: lambda _: self._exchange(),
            Command.EVICT: lambda _: self._evict(),
            Command.TAKE_CHANGES: lambda said: self._take_changes(whole=bool(said)),
            Command.RESTORE: lambda _: self._restore(),
            Command.TAKE_CHANGED: lambda _: self._take_changed(),
            Command.ENCODE: lambda said: self._encode(msgspec.msgpack.decode(said, type=Encoding)),
            Command.NORMS: lambda said: packed({"norms": self.learner.norms_of(np.frombuffer(said, np.uint64))}),
        }

    def obey(self, command: int, said: bytes) -> bytes:
        """Do what the leader has told all to do; returns the answer."""
        return self._ways[Command(command)](said)

    # Learning ---------------------------------------------------------------------------------------------------

    def _learn(self, samples: Samples) -> bytes:
        mine = samples.take(owners(samples.user_keys, self._wire.size) == self._wire.rank)
        arrays: dict[str, np.ndarray] = {}
        if len(mine):
            arrays = learned_arrays(self.learner.learn(mine))
        elif self.learner.deep is not None:
            self.learner.deep.step_along()
        if self.beliefs_spread:
            self._forgotten.append(mine.rows_B["imp_key"][np.isin(mine.rows_B["kind"], _SETTLING)])
        return self.counted(arrays)

    def counted(self, arrays: dict[str, np.ndarray] | None = None) -> bytes:
        """An answer that says how far this process is."""
        return with_meta(arrays or {}, msgspec.structs.asdict(self.counts()))

    def counts(self) -> Counts:
        """How far this process is."""
        learner = self.learner
        return Counts(learner.num_samples, learner.learned_ts, learner.num_rows, self.rows[0].num_shared)

    def _average(self, parameters: Sequence[Tensor], num_samples: int) -> float | None:
        """As `learner.adaf2m2.deep.Average`."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        parts = [gradient.flatten() * num_samples for gradient in gradients]
        summed = torch.cat([*parts, parts[0].new_full((1,), float(num_samples))])
        self._wire.sum(summed)
        total = float(summed[-1])
        if not total:
            return None
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            parameter.grad = (summed[begin:end] / total).view_as(parameter)
            begin = end
        return num_samples / total

    # What all share ---------------------------------------------------------------------------------------------

    def _exchange(self) -> bytes:
        wire = self._wire
        moved = [shared.take(wire.size) for shared in self.rows]
        taken = [
            unpacked(part)
            for part in wire.exchange(
                [packed(_named([of_table[rank] for of_table in moved])) for rank in range(wire.size)]
            )
        ]
        merged = [shared.merged([_of(n, part) for part in taken]) for n, shared in enumerate(self.rows)]
        parts = [unpacked(part) for part in wire.share(packed(_named(merged) | self._loose()))]
        for n, shared in enumerate(self.rows):
            for part in parts:
                shared.put(_of(n, part))
        self._put_loose(parts)
        self._num_at_exchange = self.learner.num_samples
        return b""

    def _loose(self) -> dict[str, np.ndarray]:
        """What is no row, for all."""
        learner = self.learner
        arrays = {
            "learned": np.array([learner.num_samples - self._num_at_exchange]),
            "max_ts": np.array([learner.max_ts]),
            "forgotten": np.concatenate([_NO_KEYS, *self._forgotten]),
        }
        for n, dense in enumerate(self.dense):
            arrays |= {f"dense.{n}.{name}": array for name, array in dense.take().items()}
        for n, shared in enumerate(self.rows):
            admission = shared.table.admission
            arrays[f"noted.{n}"] = admission.noted_N[self._num_noted[n] : int(admission.num_noted_1[0])].copy()
        for n, buffer in enumerate(self._buffers()):
            arrays[f"buffer.{n}"] = buffer.cpu().numpy().copy()
        return arrays

    def _buffers(self) -> list[Tensor]:
        """Running statistics of the deep part."""
        deep = self.learner.deep
        return [] if deep is None else [buffer for buffer in deep.dense.buffers() if buffer.is_floating_point()]

    def _put_loose(self, parts: Sequence[dict[str, np.ndarray]]) -> None:
        self.learner.max_ts = max(int(part["max_ts"][0]) for part in parts)
        learned_N = np.array([int(part["learned"][0]) for part in parts])
        for n, dense in enumerate(self.dense):
            dense.put([below(f"dense.{n}.", part) for part in parts], learned_N)
        for n, buffer in enumerate(self._buffers()):
            of_all = [torch.from_numpy(part[f"buffer.{n}"].copy()) for part in parts]
            buffer.copy_(torch.stack(of_all).mean(0).view_as(buffer))
        for rank, part in enumerate(parts):
            if rank == self._wire.rank:
                continue
            for n, shared in enumerate(self.rows):
                # As if its occurrences elsewhere had been here: a few everywhere are many.
                shared.table.admission.count(part[f"noted.{n}"].astype(np.uint64))
            if self._beliefs is not None:
                self._beliefs.drop(part["forgotten"].astype(np.uint64))
        self._note_noted()
        self._forgotten = []

    def _note_noted(self) -> None:
        self._num_noted = [int(shared.table.admission.num_noted_1[0]) for shared in self.rows]

    def _evict(self) -> bytes:
        """Evict what is stale here, and what others have found to be; answers how many ids that is.

        Whatever is shared is as old everywhere, but each process looks at other rows.
        """
        evicted = self.learner.evicted_now()
        own = {str(n): keys_N for n, (_, keys_N) in enumerate(evicted)}
        parts = [unpacked(part) for part in self._wire.share(packed(own))]
        num_evicted = 0
        for n, (table, _) in enumerate(evicted):
            keys_N = np.unique(np.concatenate([part[str(n)] for part in parts]))
            num_evicted += len(keys_N)
            table.forget(keys_N[table.find(keys_N) > 0])
        return packed({"num": np.array([num_evicted])})

    # Checkpoints and weights ------------------------------------------------------------------------------------

    def _take_changes(self, *, whole: bool) -> bytes:
        arrays, meta = self.learner.take_changes(whole=whole)
        self._note_noted()
        for shared in self.rows:
            shared.count()
        return with_meta(arrays, {"state": meta, "counts": self.counts()})

    def _restore(self) -> bytes:
        (mine, *_) = self._wire.exchange([b""] * self._wire.size)
        self.restore(*and_meta(mine))
        return self.counted()

    def restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Continue from what `_take_changes` gave, all of it.

        Raises:
            ValueError: it is of a model with other parts.
        """
        self.learner.restore(arrays, meta)
        for shared in self.rows:
            shared.restored()
        for dense in self.dense:
            dense.keep()
        self._num_at_exchange = self.learner.num_samples
        self.beliefs_spread = bool(meta.get("beliefs_spread", False))
        self._note_noted()

    def _take_changed(self) -> bytes:
        """See what has changed since the last version; answers what was evicted."""
        self.changed = take_changed(self.learner)
        return packed({str(n): keys for n, keys in enumerate(self.changed.evicted)})

    def _encode(self, wanted: Encoding) -> bytes:
        """Rows that are this process' alone, if it is its turn."""
        if wanted.rank != self._wire.rank:
            return b""
        tables = [shared.table for shared in self.rows]
        assert wanted.full or self.changed is not None
        changed = None if wanted.full or self.changed is None else self.changed.rows
        own = encode_rows(tables, changed, wanted.values, lambda n, rows: self.rows[n].own_rows(rows))
        return msgspec.msgpack.encode(list(own))


_NO_KEYS = np.zeros(0, np.uint64)
_SETTLING = (SampleKind.CORRECTION, SampleKind.SETTLED)


def _shared_rows(recipe: Recipe, learner: Learner) -> list[SharedRows]:
    """Of every table that is published, in that order."""
    fields, fast = recipe.fields, learner.fast
    of_values = np.array([field.name != "user_id" for field in fields], np.bool_)
    of_crosses = np.ones(max(len(recipe.crosses), 1), np.bool_)
    value_prior, cross_prior = np.zeros(len(fields)), np.full(len(of_crosses), recipe.fast.cross_prior)
    if fast is None:
        return [SharedRows(learner.table, of_values, precision_of(recipe, learner.table, value_prior))]
    value_prior = fast.priors
    found = []
    for part in (fast, *learner.others.parts):
        for table, is_shared, prior in (
            (part.table, of_values, value_prior),
            (part.cross_table, of_crosses, cross_prior),
        ):
            found.append(SharedRows(table, is_shared, precision_of(recipe, table, prior)))
    return found


def _named(columns: Sequence[Columns]) -> dict[str, np.ndarray]:
    return {f"{n}.{name}": column for n, of_table in enumerate(columns) for name, column in of_table.items()}


def _of(n: int, part: dict[str, np.ndarray]) -> Columns:
    return {name: part[f"{n}.{name}"] for name in COLUMNS}


def with_meta(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> bytes:
    """Arrays by name, and what is said of them."""
    return packed({**arrays, META: np.frombuffer(msgspec.msgpack.encode(meta), np.uint8)})


def and_meta(part: bytes | memoryview) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same again."""
    arrays = unpacked(part)
    meta: dict[str, Any] = msgspec.msgpack.decode(arrays.pop(META).tobytes())
    return arrays, meta
