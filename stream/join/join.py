"""The label join of a worker's partitions, in its own memory.

What a partition holds is read when it is first needed, and kept: a partition has one owner, and the fence tells whether
that is still so. Each call reads what it lacks (`reading`), lets records meet what is held (`taking`), handles what is
due (`passing`), and writes what has changed, all or nothing (`committing`). State and samples are those of the script
`state_store/lua/apply`, to the byte; either may go on where the other has ended.
"""

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from state_store.records import Applied, Call, Reading, Span
from state_store.states import StateStore
from stream.join import committing, passing, taking
from stream.join.memory.clocks import watermark_of
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Partition
from stream.join.memory.plan import Plan
from stream.join.reading import FormerStateError, Reader
from stream.join.warm_up import warm_up
from stream.join.work import Work

_TRIES = 5


class ContendedError(RuntimeError):
    """Something else writes what only the owner of a partition may write."""


class CompiledJoin:
    """Applies calls as `StateStore.apply_call` does.

    Args:
        store: the state store.
        memory_mb: of all partitions together; one that has more than its share begins anew, and reads what it needs.
    """

    def __init__(self, store: StateStore, memory_mb: int = 512) -> None:
        self._store = store
        self._most_bytes = memory_mb << 20
        self._plan = Plan(store)
        self._reader, self._writer = Reader(store, self._plan), committing.Writer(store, self._plan)
        self._partitions: dict[int, Partition] = {}
        self._locks: defaultdict[int, Lock] = defaultdict(Lock)
        """One call of a partition at a time, whichever thread asks."""
        self._scripted: set[int] = set()
        """Partitions that hold what only the script reads."""

    def warm_up(self) -> float:
        """Have everything compiled before the first record comes; returns the seconds it took."""
        return warm_up(self._plan)

    def forget(self, partition: int) -> None:
        """Nothing of a partition is known any more."""
        with self._locks[partition]:
            self._partitions.pop(partition, None)
            self._scripted.discard(partition)

    def take_sums(self, partition: int, items: Sequence[str], sums_IC: np.ndarray, number: int) -> None:
        """A roll-up of this process has written items' sums over the other partitions: they need not be read.

        Args:
            partition: where.
            items: which.
            sums_IC: of their counters.
            number: how often roll-ups have written there by now; if another one has meanwhile, sums are read.
        """
        with self._locks[partition]:
            known = self._partitions.get(partition)
            if known is None or not known.marks or int(known.marks[0] or 0) != number - 1:
                return
            known.marks[0] = b"%d" % number
            slots_I = known.items.find(texts_of(items))
            is_here_I = slots_I >= 0
            num_counts = self._plan.num_counts
            known.arrays.item_values_IX[slots_I[is_here_I], num_counts : 2 * num_counts] = sums_IC[is_here_I]

    def apply_call(self, call: Call) -> Applied:
        """Apply what lies in a range of offsets of one topic partition.

        Raises:
            ContendedError: the state changes while it is worked on, again and again.
        """
        with self._locks[call.partition]:
            return self._apply(call)

    def _apply(self, call: Call) -> Applied:
        partition = call.partition
        for _ in range(_TRIES):
            if partition in self._scripted:
                return self._store.apply_call(call)
            try:
                applied = self._attempt(call)
            except FormerStateError:
                self._partitions.pop(partition, None)
                self._scripted.add(partition)
                continue
            except BaseException:
                self._partitions.pop(partition, None)
                raise
            if applied is not None:
                return applied
            self._partitions.pop(partition, None)
        raise ContendedError(
            f"partition {partition}: its state in Redis was changed by something else {_TRIES} times while a batch was "
            "applied; is it edited by hand, or by a worker of another version?"
        )

    def tick(self, partition: int, epoch: int, reading: Reading | None = None) -> Applied:
        """Handle deadlines without a batch."""
        return self.apply_call(
            Call(partition, self._store.topics[0], Span(1, 0), epoch, (), reading=reading or Reading())
        )

    def _attempt(self, call: Call) -> Applied | None:
        """Apply a call; None if the partition's memory is not what Redis holds."""
        plan, known = self._plan, self._partitions.get(call.partition)
        if known is None:
            known = self._partitions[call.partition] = self._reader.open(call.partition)
        work = Work(call, known, plan, self._reader)
        batch, refused = taking.read(work)
        if refused is not None:
            return refused
        if not work.is_current:
            return None
        if batch is not None:
            taking.take(work, batch)
        known.watermark = watermark_of(known.clocks, known.watermark, call.reading, plan.lateness, plan.topics)
        more = passing.pass_due(work)
        applied = self._writer.write(work)
        if applied is None:
            return None
        if batch is not None:
            work.give_back(batch.slots)
        if known.num_bytes * len(self._partitions) > self._most_bytes and not known.to_mend:
            self._partitions.pop(call.partition)
        return Applied(applied.outcome, applied.offset, applied.sequence, applied.learned, more, applied.epoch)
