"""One call of the join, from what it is given to what it writes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from state_store.records import Call
from stream.join.filling import put_held, put_items, put_users
from stream.join.kernels.arrays import (
    BODIES_END,
    DEAD,
    HISTORIES_END,
    ITEMS_TOUCHED,
    NORM,
    SAMPLES,
    USERS_TOUCHED,
    VALUES,
)
from stream.join.kernels.holding import mark
from stream.join.kernels.upkeep import bytes_held, pack_bodies, pack_histories, pack_values
from stream.join.kernels.words import ABSENT
from stream.join.memory.due import MOST_READ, Dues
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Arrival, Partition
from stream.join.memory.plan import LIFE, SPARE, Plan
from stream.join.reading import Fetched, Lacking, Reader

_FULL = 0.9


class Work:
    """What the steps of one call share.

    Args:
        call: what it is given.
        partition: whose.
        plan: of the pipeline.
        reader: reads what the partition lacks.
    """

    def __init__(self, call: Call, partition: Partition, plan: Plan, reader: Reader) -> None:
        self.call, self.partition, self.plan, self.reader = call, partition, plan, reader
        self.is_tick = call.span.first > call.span.last
        self.fetched: Fetched
        self.dues: Dues
        self.dead: list[tuple[str, str, int, dict[str, Any]]] = []
        """Reason, topic, offset and event of what is given up."""
        self.waiting_changed: dict[str, None] = {}
        self.moved: dict[int, Arrival] = {}
        """Arrivals that are new, or of which more has passed."""
        self.borrowed: list[int] = []
        """Numbers of impressions that are not held, or of which only the labels are known: for this call only."""

    @property
    def is_current(self) -> bool:
        """Whether the partition's memory is what Redis holds: nobody else has written since."""
        return self.fetched.fence == self.partition.fence

    def fetch(self, lacking: Lacking) -> Fetched:
        """Read what the partition lacks."""
        return self.reader.fetch(self.call.partition, lacking)

    def fetch_first(self, lacking: Lacking) -> None:
        """The same, and what is due next."""
        lacking.most_due = MOST_READ
        self.fetched = self.fetch(lacking)
        self.dues = Dues(self.fetched.due, MOST_READ)

    def doubt(self) -> None:
        """Forget users and items whose life in Redis may have ended since it was given anew."""
        partition, plan = self.partition, self.plan
        now_in = tuple(self.fetched.clock_s // seconds for seconds in plan.sixteenths)
        if now_in == partition.now_in:
            return
        partition.now_in = now_in
        arrays = partition.arrays
        for entities, values, column, now in (
            (arrays.users_U, arrays.user_values_UX, plan.user_renewed, now_in[0]),
            (arrays.items_I, arrays.item_values_IX, plan.item_renewed, now_in[1]),
        ):
            entities["known"][values[:, column] + LIFE <= now] = 0

    def mend(self) -> None:
        """Write again what Redis had lost when some of it was written: all that the partition itself knows of it."""
        partition, plan, p = self.partition, self.plan, self.call.partition
        arrays, keys, num_counts = partition.arrays, self.reader.keys, plan.num_counts
        own_of_item = (1 << num_counts) - 1
        own_of_user = (1 << len(plan.user_fields)) - 1 & ~(0b11 << num_counts + NORM)
        for prefix, numbers, entities, values, renewed, own, which in (
            (
                keys.user(p, ""),
                partition.users,
                arrays.users_U,
                arrays.user_values_UX,
                plan.user_renewed,
                own_of_user,
                USERS_TOUCHED,
            ),
            (
                keys.item(p, ""),
                partition.items,
                arrays.items_I,
                arrays.item_values_IX,
                plan.item_renewed,
                own_of_item,
                ITEMS_TOUCHED,
            ),
        ):
            for key in partition.to_mend:
                n = numbers.find(texts_of([key.removeprefix(prefix)]))[0] if key.startswith(prefix) else -1
                if n < 0 or not entities[n]["known"]:
                    continue
                values[n, renewed] = 0
                entities[n]["changed"] |= entities[n]["present"] & own
                entities[n]["present"] = 0
                mark(arrays, which, entities, n, renewed)
        partition.to_mend = []

    def know(self, users: np.ndarray, items: np.ndarray, least: int) -> None:
        """Read those users and items of whom less than that is known (`arrays.ENTITY_DTYPE`)."""
        partition = self.partition
        known, items_known = partition.arrays.users_U["known"], partition.arrays.items_I["known"]
        lacking_users = np.unique(users[known[users] < least])
        lacking_items = np.unique(items[items_known[items] < least])
        if not len(lacking_users) and not len(lacking_items):
            return
        names = partition.users.names(lacking_users), partition.items.names(lacking_items)
        found = self.fetch(Lacking(users=names[0], items=names[1]))
        put_users(self.plan, partition, lacking_users, found)
        put_items(self.plan, partition, lacking_items, found)

    def hold(
        self, ids: Sequence[str], slots: np.ndarray, bodies: list[bytes | None], labels: list[bytes | None]
    ) -> None:
        """Put impressions into the partition's memory, with what their users did, if that is kept."""
        users = put_held(self.plan, self.partition, slots, bodies, labels)
        if self.plan.num_histories and users:
            self.know(self.partition.number_users(texts_of(users)), np.zeros(0, np.int64), 1)

    def grow_samples(self, more: int) -> None:
        """Room for so many samples more."""
        partition = self.partition
        num = int(partition.arrays.sizes[SAMPLES]) + more
        partition.grow(num, "samples_E", "carried_EH", "sample_values_EA")
        partition.grow(num * self.plan.num_histories, "views_E")

    def grow(self, needs: Sequence[int]) -> None:
        """Room for what a record needs (`stream.join.kernels.matching.needs_of`)."""
        num_matches, num_samples, body, histories = needs
        self.grow_samples(num_samples)
        sizes, grow = self.partition.arrays.sizes, self.partition.grow
        grow(int(sizes[VALUES]) + num_matches, "values_V")
        grow(int(sizes[DEAD]) + num_matches, "dead_N")
        grow(int(sizes[BODIES_END]) + body, "bodies")
        grow(int(sizes[HISTORIES_END]) + histories, "histories")

    def tidy(self) -> None:
        """Win back what is gone has taken, where that is as much as what is there."""
        partition, arrays = self.partition, self.partition.arrays
        num = len(partition.imps)
        # What is copied has been written once since the last time: no byte is moved more than once or twice.
        if arrays.sizes[BODIES_END] > len(arrays.bodies) * _FULL:
            total = int(bytes_held(arrays, num))
            bodies = np.zeros(max(2 * total, 1024), np.uint8)
            pack_bodies(arrays, num, bodies)
            partition.arrays = arrays = arrays._replace(bodies=bodies)
        if arrays.sizes[VALUES] > len(arrays.values_V) * _FULL:
            values = np.zeros(max(2 * int(arrays.held_S["num_values"].sum()), 1024), arrays.values_V.dtype)
            pack_values(arrays, num, values)
            partition.arrays = arrays = arrays._replace(values_V=values)
        if self.plan.num_histories and arrays.sizes[HISTORIES_END] > len(arrays.histories) * _FULL:
            num_users = len(partition.users)
            total = int(arrays.histories_UH["size"][:num_users].sum()) + SPARE * num_users * self.plan.num_histories
            histories = np.zeros(max(2 * total, 1024), np.uint8)
            pack_histories(arrays, num_users, SPARE, histories)
            partition.arrays = arrays._replace(histories=histories)

    def give_back(self, slots: Sequence[int] | np.ndarray) -> None:
        """Numbers of impressions that have turned out not to be held, or not wholly, are free."""
        partition, at = self.partition, np.asarray(slots, np.int64)
        held_S = partition.arrays.held_S
        is_free = held_S["state"][at] == ABSENT
        if slots is self.borrowed:
            is_free |= held_S["body_at"][at] < 0
        free = at[is_free]
        partition.forget_imps(free[partition.imps.are_known(free)])
