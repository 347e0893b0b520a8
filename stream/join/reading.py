"""What a partition lacks is read from Redis, in one call of `state_store/lua/fetch.lua`."""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from state_store.client import script
from state_store.states import StateStore
from stream.join.memory.ids import Texts
from stream.join.memory.partition import Arrival, Partition
from stream.join.memory.plan import Plan

_pack = msgspec.msgpack.encode


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
        users, items, *several = rest
        # Of what is not there nothing is said.
        bodies, labels, arrivals = (
            some or [None] * len(ids)
            for some, ids in zip(several, (lacking.bodies, lacking.labels, lacking.arrivals), strict=True)
        )
        return Fetched(fence[:num], fence[num:], learned, clock_s, members, users, items, bodies, labels, arrivals)

    def arrival_of(self, number: int, data: bytes, passed: bytes) -> Arrival:
        """An arrival as `state_store/lua/apply/47_arrivals.lua` writes it."""
        num = int(np.frombuffer(data, "<u4", 1)[0])
        index = np.frombuffer(data, [("ts", "<f8"), ("end", "<u4")], num, 4)
        ends = np.array([0, *index["end"].tolist()], np.int64)
        text = np.frombuffer(data, np.uint8, offset=4 + 12 * num)
        ids = Texts(text, np.stack([ends[:-1], ends[1:]], axis=1))
        before = [[float(ms), int(n)] for ms, n in np.frombuffer(passed, [("ms", "<f8"), ("n", "<u4")]).tolist()]
        return Arrival(number, ids, index["ts"].copy(), _by_todays(before, self._plan.deadlines), is_new=False)


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
