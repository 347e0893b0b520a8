"""What a partition holds in the worker's memory: which id has which number, and room for all that is known of each."""

from collections.abc import Sequence

import numpy as np

from stream.join.kernels.arrays import (
    CARRIED_DTYPE,
    CLAIM_DTYPE,
    DEAD_DTYPE,
    ENTITY_DTYPE,
    HELD_DTYPE,
    HISTORY_DTYPE,
    NUM_SIZES,
    SAMPLE_DTYPE,
    VALUE_DTYPE,
    VIEW_DTYPE,
    Arrays,
)
from stream.join.kernels.words import ABSENT
from stream.join.memory.clocks import Clock
from stream.join.memory.ids import Ids, Texts
from stream.join.memory.plan import Plan

_AT_FIRST = 1024
Row = Sequence[object]


class Arrival:
    """The impressions that one call brought, in the order of their event time; they are due together."""

    def __init__(self, number: int, ids: Texts, ts: np.ndarray, passed: list[list[float]], *, is_new: bool) -> None:
        self.number, self.ids, self.ts, self.passed, self.is_new = number, ids, ts, passed, is_new
        self.slots: np.ndarray | None = None
        """Which impressions they are, if that is known."""

    def __len__(self) -> int:
        return len(self.ts)

    def next_due(self) -> float | None:
        """When the first of them is due next; None: all have come to all deadlines."""
        return min((self.ts[int(n)] + ms for ms, n in self.passed if n < len(self)), default=None)


class Partition:
    """One topic partition pair.

    Args:
        plan: of the pipeline.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.fence: list[bytes | None] = []
        """Values of `Plan.fence_fields`, as Redis has them."""
        self.marks: list[bytes | None] = []
        self.clocks = {topic: Clock() for topic in plan.topics}
        self.watermark: float | None = None
        self.sequence = 0
        self.num_arrivals = 0
        self.arrivals: dict[int, Arrival] = {}
        self.waiting: dict[str, list[Row]] = {}
        """Feedback that came before its impression, all of it."""
        self.now_in: tuple[int, ...] = ()
        """In which sixteenths of a life of users, and of items, it was looked last who may have none any more."""
        self.to_mend: list[str] = []
        """Keys of users and items that Redis had lost (an eviction) when some of their fields were written."""
        self.imps, self.users, self.items = Ids(), Ids(), Ids()
        self._scratch = np.zeros(1 << 16, np.uint8)
        num_actions, num_histories = len(plan.actions), plan.num_histories
        none = np.zeros
        self.arrays = Arrays(
            held_S=none(0, HELD_DTYPE),
            values_V=none(_AT_FIRST, VALUE_DTYPE),
            bodies=none(_AT_FIRST, np.uint8),
            users_U=none(0, ENTITY_DTYPE),
            user_values_UX=none((0, plan.num_user_numbers)),
            histories_UH=none((0, num_histories), HISTORY_DTYPE),
            histories=none(_AT_FIRST, np.uint8),
            items_I=none(0, ENTITY_DTYPE),
            item_values_IX=none((0, len(plan.item_fields))),
            lists_4S=none((4, 0), np.int32),
            samples_E=none(_AT_FIRST, SAMPLE_DTYPE),
            carried_EH=none((_AT_FIRST, num_histories), CARRIED_DTYPE),
            sample_values_EA=none((_AT_FIRST, num_actions)),
            views_E=none(_AT_FIRST * num_histories, VIEW_DTYPE),
            dead_N=none(_AT_FIRST, DEAD_DTYPE),
            counts_2=none((2, len(plan.counters)), np.int64),
            claims=none(2 * plan.time_users, CLAIM_DTYPE),
            sizes=none(NUM_SIZES, np.int64),
            times=none(3),
        )

    def scratch(self, least: int) -> np.ndarray:
        """At least so many bytes to write to, until they are asked for again."""
        if len(self._scratch) < least:
            self._scratch = np.zeros(2 * least, np.uint8)
        return self._scratch

    @property
    def num_bytes(self) -> int:
        """Memory that all of it takes, about."""
        return sum(array.nbytes for array in self.arrays) + sum(
            ids.num_bytes for ids in (self.imps, self.users, self.items)
        )

    def grow(self, num: int, *names: str) -> None:
        """Room for so many, of the arrays of these names; what was there stays."""
        arrays = {}
        for name in names:
            old = getattr(self.arrays, name)
            if len(old) < num:
                new = np.zeros((max(num, 2 * len(old)), *old.shape[1:]), old.dtype)
                new[: len(old)] = old
                arrays[name] = new
        if arrays:
            self.arrays = self.arrays._replace(**arrays)

    def _grow_lists(self, num: int) -> None:
        """Room for each of so many in each list."""
        old = self.arrays.lists_4S
        if old.shape[1] < num:
            new = np.zeros((4, max(num, 2 * old.shape[1])), old.dtype)
            new[:, : old.shape[1]] = old
            self.arrays = self.arrays._replace(lists_4S=new)

    def number_imps(self, ids: Texts) -> np.ndarray:
        """Numbers of impressions; new ones are not held."""
        return self._number(self.imps, ids, "held_S")

    def forget_imps(self, slots: np.ndarray) -> None:
        """These are held no longer."""
        self.imps.forget(slots)
        self.arrays.held_S["state"][slots] = ABSENT

    def number_users(self, ids: Texts) -> np.ndarray:
        """Numbers of users; of new ones nothing is known."""
        return self._number(self.users, ids, "users_U", "user_values_UX", "histories_UH")

    def number_items(self, ids: Texts) -> np.ndarray:
        """Numbers of items; of new ones nothing is known."""
        return self._number(self.items, ids, "items_I", "item_values_IX")

    def _number(self, known: Ids, ids: Texts, *arrays: str) -> np.ndarray:
        found = known.numbers(ids)
        if len(known) > len(getattr(self.arrays, arrays[0])):
            self.grow(len(known), *arrays)
            self._grow_lists(len(getattr(self.arrays, arrays[0])))
        return found
