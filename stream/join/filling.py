"""What was read is put into a partition's memory."""

from collections.abc import Sequence

import numpy as np

from stream.join.kernels.arrays import BODIES_END, HELD_DTYPE, HISTORIES_END, VALUES
from stream.join.kernels.words import BODY_HEAD, CORE_HEAD, DROPPED, HELD, PRESENT
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Partition
from stream.join.memory.plan import LIFE, SPARE, Plan
from stream.join.reading import Fetched, FormerStateError


def put_users(plan: Plan, partition: Partition, slots: np.ndarray, found: Fetched) -> None:
    """Users who were not known, or whose norms may be others by now."""
    if not len(slots):
        return
    arrays, data = partition.arrays, found.users
    width, num_numbers = len(plan.user_fields), plan.num_user_numbers
    rows = np.frombuffer(data, "<f8", len(slots) * width).reshape(-1, width)
    at = slots
    arrays.user_values_UX[at] = np.nan_to_num(rows[:, :num_numbers])
    arrays.users_U["present"][at] = ~np.isnan(rows) @ (1 << np.arange(width))
    known = arrays.users_U["known"][at]
    arrays.users_U["known"][at] = _known(rows[:, plan.user_renewed], found.clock_s // plan.sixteenths[0])
    if not plan.num_histories:
        return
    sizes = np.nan_to_num(rows[:, num_numbers:]).astype(np.int64)
    text_at = rows.nbytes
    room = partition.arrays.sizes[HISTORIES_END] + int(sizes.sum()) + sizes.size * SPARE
    partition.grow(int(room), "histories")
    arrays = partition.arrays
    for slot, its_sizes, before in zip(slots.tolist(), sizes.tolist(), known, strict=True):
        for h, size in enumerate(its_sizes):
            text, text_at = data[text_at : text_at + size], text_at + size
            if before:
                continue
            end = int(arrays.sizes[HISTORIES_END])
            arrays.histories[end : end + size] = np.frombuffer(text, np.uint8)
            arrays.histories_UH[slot, h] = (end, size, size + SPARE, 0)
            arrays.sizes[HISTORIES_END] = end + size + SPARE


def put_items(plan: Plan, partition: Partition, slots: np.ndarray, found: Fetched) -> None:
    """Items that were not known, or whose norms and sums may be others by now."""
    if not len(slots):
        return
    rows = np.frombuffer(found.items, "<f8").reshape(-1, len(plan.item_fields))
    at, arrays = slots, partition.arrays
    arrays.item_values_IX[at] = np.nan_to_num(rows)
    arrays.items_I["present"][at] = ~np.isnan(rows) @ (1 << np.arange(rows.shape[1]))
    now_in = found.clock_s // plan.sixteenths[1]
    arrays.items_I["known"][at] = _known(rows[:, plan.item_renewed], now_in)


def put_held(
    plan: Plan,
    partition: Partition,
    slots: np.ndarray,
    bodies: Sequence[bytes | None],
    labels: Sequence[bytes | None],
) -> list[str]:
    """Impressions that are held; returns their users. `bodies`: None where there is no such impression."""
    some = [one for one in bodies if one is not None]
    room = int(partition.arrays.sizes[BODIES_END]) + sum(map(len, some))
    partition.grow(room, "bodies")
    users = []
    for slot, body, said in zip(slots.tolist(), bodies, labels, strict=True):
        if body is None:
            continue
        users.append(_put_body(partition, slot, body))
        if said is not None:
            _put_labels(plan, partition, slot, said)
    return users


def _put_body(partition: Partition, slot: int, body: bytes) -> str:
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
    held["user"] = partition.number_users(texts_of([user]))[0]
    return user


def put_bare(plan: Plan, partition: Partition, slot: int, imp: str, labels: bytes) -> None:
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
    _put_labels(plan, partition, slot, labels)


def _put_labels(plan: Plan, partition: Partition, slot: int, said: bytes) -> None:
    """What is known of labels (`state_store/lua/apply/40_held.lua`); of tasks declared since there is nothing."""
    arrays, num_tasks = partition.arrays, plan.num_tasks
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


def _known(renewed: np.ndarray, now_in: int) -> np.ndarray:
    """What is known of whom was just read: all, but of whose life may end before it is looked at again."""
    return np.where(renewed + LIFE <= now_in, 0, 2)


def text_at(texts: bytes, at: int) -> tuple[int, int]:
    """Where a msgpack string begins, and where it ends."""
    mark = texts[at]
    if mark < 192:
        return at + 1, at + 1 + mark - 160
    if mark == 217:
        return at + 2, at + 2 + texts[at + 1]
    return at + 3, at + 3 + 256 * texts[at + 1] + texts[at + 2]
