"""What a partition lacks is read from Redis, in one call of `state_store/lua/fetch.lua`, and put into its memory."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from state_store.client import script
from state_store.states import StateStore
from stream.join.kernels.arrays import BODIES_END, HELD_DTYPE, HISTORIES_END, VALUES
from stream.join.kernels.words import BODY_HEAD, CORE_HEAD, DROPPED, HELD, PRESENT
from stream.join.memory.partition import Arrival, Partition
from stream.join.memory.plan import Plan

_pack = msgspec.msgpack.encode


LIFE = 16
"""Sixteenths for which a life lasts at least."""


class FormerStateError(Exception):
    """Something is held in the form of a former version, which only the script reads."""


class Lacking(msgspec.Struct):
    """What is to be read."""

    users: list[str] = []
    items: list[str] = []
    bodies: list[str] = []
    """Ids of impressions."""
    labels: list[str] = []
    arrivals: list[str] = []
    """Fields of the hash."""
    most_due: int = 0


class Fetched(msgspec.Struct):
    """What was read."""

    fence: list[bytes | None]
    marks: list[bytes | None]
    learned: int
    clock_s: int
    due: list[tuple[bytes, float]]
    users: bytes
    items: bytes
    bodies: list[bytes | None]
    labels: list[bytes | None]
    arrivals: list[bytes | None]


class Reader:
    """Reads.

    Args:
        store: the state store.
        plan: of the pipeline.
    """

    def __init__(self, store: StateStore, plan: Plan) -> None:
        self.keys, self._plan = store.keys, plan
        self._client = store.client
        self._fetch = script(store.client, "fetch")
        self._fence = plan.fence_fields + plan.marks

    def open(self, p: int) -> Partition:
        """A partition of which nothing is known but what its fence and the feedback that waits say."""
        plan, found = self._plan, Partition(self._plan)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hmget(self.keys.fence(p), plan.fence_fields)
            pipe.hmget(self.keys.fence(p), plan.clock_fields)
            pipe.hgetall(self.keys.waiting(p))
            found.fence, clocks, waiting = pipe.execute()
        for n, topic in enumerate(plan.topics):
            found.clocks[topic].read(*clocks[4 * n : 4 * n + 4])
        sequence, watermark, num_arrivals = found.fence[-3:]
        found.sequence, found.num_arrivals = int(sequence or 0), int(float(num_arrivals or 0))
        found.watermark = None if watermark is None else float(watermark)
        found.waiting = {imp.decode(): msgspec.msgpack.decode(rows) for imp, rows in waiting.items() if imp}
        return found

    def fetch(self, p: int, lacking: Lacking) -> Fetched:
        """Read.

        Raises:
            FormerStateError: the version before holds impressions there.
        """
        keys, plan = self.keys, self._plan
        asked = {
            "fence": self._fence,
            "most_due": lacking.most_due,
            "users": lacking.users,
            "items": lacking.items,
            "user_fields": plan.user_fields,
            "numbers": plan.num_user_numbers,
            "item_fields": plan.item_fields,
            "bodies": lacking.bodies,
            "labels": lacking.labels,
            "arrivals": lacking.arrivals,
        }
        answer: Any = self._fetch(
            keys=[
                keys.fence(p),
                keys.pending(p),
                keys.due(p),
                keys.learned(p),
                keys.bodies(p),
                keys.labels(p),
                keys.arrivals(p),
            ],
            args=[keys.user(p, ""), keys.item(p, ""), _pack(asked)],
        )
        fence, learned, pending, clock_s, due, *rest = answer
        if pending:
            raise FormerStateError
        num = len(plan.fence_fields)
        members = [(member, float(score)) for member, score in zip(due[0::2], due[1::2], strict=True)]
        return Fetched(fence[:num], fence[num:], learned, clock_s, members, *rest)

    # Put into a partition's memory ------------------------------------------------------------------------------

    def put_users(self, partition: Partition, slots: Sequence[int], found: Fetched) -> None:
        """Users who were not known, or whose norms may be others by now."""
        if not slots:
            return
        plan, arrays, data = self._plan, partition.arrays, found.users
        width, num_numbers = len(plan.user_fields), plan.num_user_numbers
        rows = np.frombuffer(data, "<f8", len(slots) * width).reshape(-1, width)
        at = np.array(slots)
        arrays.user_values_UX[at] = np.nan_to_num(rows[:, :num_numbers])
        arrays.users_U["present"][at] = ~np.isnan(rows) @ (1 << np.arange(width))
        known = arrays.users_U["known"][at]
        arrays.users_U["known"][at] = _known(rows[:, plan.user_renewed], found.clock_s // plan.sixteenths[0])
        if not plan.num_histories:
            return
        sizes = np.nan_to_num(rows[:, num_numbers:]).astype(np.int64)
        text_at = rows.nbytes
        room = partition.arrays.sizes[HISTORIES_END] + int(sizes.sum()) + sizes.size * 512
        partition.grow(int(room), "histories")
        arrays = partition.arrays
        for slot, its_sizes, before in zip(slots, sizes.tolist(), known, strict=True):
            for h, size in enumerate(its_sizes):
                text, text_at = data[text_at : text_at + size], text_at + size
                if before:
                    continue
                end = int(arrays.sizes[HISTORIES_END])
                arrays.histories[end : end + size] = np.frombuffer(text, np.uint8)
                arrays.histories_UH[slot, h] = (end, size, size + 512, 0)
                arrays.sizes[HISTORIES_END] = end + size + 512

    def put_items(self, partition: Partition, slots: Sequence[int], found: Fetched) -> None:
        """Items that were not known, or whose norms and sums may be others by now."""
        if not slots:
            return
        rows = np.frombuffer(found.items, "<f8").reshape(-1, len(self._plan.item_fields))
        at = np.array(slots)
        arrays = partition.arrays
        arrays.item_values_IX[at] = np.nan_to_num(rows)
        arrays.items_I["present"][at] = ~np.isnan(rows) @ (1 << np.arange(rows.shape[1]))
        now_in = found.clock_s // self._plan.sixteenths[1]
        arrays.items_I["known"][at] = _known(rows[:, self._plan.item_renewed], now_in)

    def put_held(
        self,
        partition: Partition,
        slots: Sequence[int],
        bodies: Sequence[bytes | None],
        labels: Sequence[bytes | None],
    ) -> list[str]:
        """Impressions that are held; returns their users. `bodies`: None where there is no such impression."""
        some = [one for one in bodies if one is not None]
        room = int(partition.arrays.sizes[BODIES_END]) + sum(map(len, some))
        partition.grow(room, "bodies")
        users = []
        for slot, body, said in zip(slots, bodies, labels, strict=True):
            if body is None:
                continue
            users.append(self._put_body(partition, slot, body))
            if said is not None:
                self._put_labels(partition, slot, said)
        return users

    def _put_body(self, partition: Partition, slot: int, body: bytes) -> str:
        if body[0] == 0:
            raise FormerStateError
        arrays, size = partition.arrays, len(body)
        at = int(arrays.sizes[BODIES_END])
        arrays.bodies[at : at + size] = np.frombuffer(body, np.uint8)
        arrays.sizes[BODIES_END] = at + size
        tag, text_size, keys_size = np.frombuffer(body, "<u4", 3, BODY_HEAD).tolist()
        texts = body[BODY_HEAD + CORE_HEAD :][:text_size]
        id_at, id_end = text_at(texts, 0)
        user_at, user_end = text_at(texts, id_end)
        held = arrays.held_S[slot]
        held["ts"] = np.frombuffer(body, "<f8", 1, 1)[0]
        held["body_at"], held["body_size"] = at, size
        held["id_at"], held["id_size"] = at + BODY_HEAD + CORE_HEAD + id_at, id_end - id_at
        held["tag"], held["text_size"], held["keys_size"] = tag, text_size, keys_size
        held["core_values"] = body[BODY_HEAD + 12]
        held["state"], held["phase"] = PRESENT, HELD
        for name in ("bits", "num_values", "is_labelled", "is_body_new", "is_touched", "passed"):
            held[name] = 0
        held["first_value"] = held["last_value"] = -1
        held["first"] = held["told"] = 0
        user = texts[user_at:user_end].decode()
        held["user"] = partition.number_users([user])[0]
        return user

    def put_bare(self, partition: Partition, slot: int, imp: str, labels: bytes) -> None:
        """An impression of which the body is not needed any more."""
        name = imp.encode()
        at = int(partition.arrays.sizes[BODIES_END])
        partition.grow(at + len(name), "bodies")
        arrays = partition.arrays
        arrays.bodies[at : at + len(name)] = np.frombuffer(name, np.uint8)
        arrays.sizes[BODIES_END] = at + len(name)
        held = arrays.held_S[slot]
        for field in HELD_DTYPE.names or ():
            held[field] = 0
        held["state"], held["body_at"], held["id_at"], held["id_size"] = PRESENT, -1, at, len(name)
        held["first_value"] = held["last_value"] = held["user"] = -1
        self._put_labels(partition, slot, labels)

    def _put_labels(self, partition: Partition, slot: int, said: bytes) -> None:
        """What is known of labels (`state_store/lua/apply/40_held.lua`); of tasks declared since there is nothing."""
        arrays, num_tasks = partition.arrays, self._plan.num_tasks
        held = arrays.held_S[slot]
        code, at = said[1], 2
        num = code // 8 % 8 + 1
        held["bits"], held["phase"], held["is_labelled"] = said[0], code % 8, 1
        if said[0]:
            held["first"][: min(num, num_tasks)] = np.frombuffer(said, ">f8", num, at)[:num_tasks]
            at += 8 * num
        if num > 1:
            held["told"][: min(num, num_tasks)] = np.frombuffer(said, np.uint8, num, at)[:num_tasks]
            at += num
        if code % 128 >= 64:
            num_values, at = said[at], at + 1
            partition.grow(int(arrays.sizes[VALUES]) + num_values, "values_V")
            values_V, first = partition.arrays.values_V, int(arrays.sizes[VALUES])
            for n in range(num_values):
                delay, value = np.frombuffer(said, ">f8", 2, at + 1)
                following = first + n + 1 if n + 1 < num_values else -1
                values_V[first + n] = (delay, value, following, said[at] - 1)
                at += 17
            held = partition.arrays.held_S[slot]
            held["num_values"], held["first_value"], held["last_value"] = num_values, first, first + num_values - 1
            partition.arrays.sizes[VALUES] = first + num_values
        if held["phase"] == DROPPED:
            held["passed"] = np.frombuffer(said, ">f8", 1, at)[0]

    def arrival_of(self, number: int, data: bytes, passed: bytes) -> Arrival:
        """An arrival as `state_store/lua/apply/47_arrivals.lua` writes it."""
        num = int(np.frombuffer(data, "<u4", 1)[0])
        index = np.frombuffer(data, [("ts", "<f8"), ("end", "<u4")], num, 4)
        texts, ends = data[4 + 12 * num :], [0, *index["end"].tolist()]
        ids = [texts[begin:end].decode() for begin, end in pairwise(ends)]
        before = [[float(ms), int(n)] for ms, n in np.frombuffer(passed, [("ms", "<f8"), ("n", "<u4")]).tolist()]
        return Arrival(number, ids, index["ts"].copy(), _by_todays(before, self._plan.deadlines), is_new=False)


def _known(renewed: np.ndarray, now_in: int) -> np.ndarray:
    """What is known of whom was just read: all, but of whose life may end before it is looked at again."""
    return np.where(renewed + LIFE <= now_in, 0, 2)


def _by_todays(before: list[list[float]], deadlines: Iterable[float]) -> list[list[float]]:
    """How many have come to each of today's deadlines.

    Those that were declared since count as passed where a later one is; what was to be kept for longer, or is now for
    less long, is held until it comes to the last of today's.
    """
    today = [[ms, 0] for ms in deadlines]
    if [ms for ms, _ in before] == [ms for ms, _ in today]:
        return before
    last = before[-1]
    for one in today:
        one[1] = next((n for ms, n in before if ms >= one[0]), 0)
    if today[-1][0] < last[0]:
        today[-1][1] = last[1]
    return today


def text_at(texts: bytes, at: int) -> tuple[int, int]:
    """Where a msgpack string begins, and where it ends."""
    mark = texts[at]
    if mark < 192:
        return at + 1, at + 1 + mark - 160
    if mark == 217:
        return at + 2, at + 2 + texts[at + 1]
    return at + 3, at + 3 + 256 * texts[at + 1] + texts[at + 2]
