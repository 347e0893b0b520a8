"""What a former version left in the state store, made from what today's leaves there."""

import struct
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import redis

from learner.config import FieldSettings
from learner.samples.columns import Samples
from learner.samples.layout import CORE_HEAD, HEADER, Layout
from state_store.keys import Keys
from stream.events import Impression
from stream.features import FeatureExtractor, shown_of

_IS_TODAYS, _HAS_VALUES, _DROPPED = 128, 64, 5
_INDEX, _PASSED = struct.Struct("<dI"), struct.Struct("<dI")


def hold_as_before(
    client: redis.Redis, keys: Keys, num_tasks: int, is_chosen: Callable[[str], bool] = lambda imp: True
) -> dict[str, bytes]:
    """From now on impressions of partition 0 are held as the version before held them: labels and body in one, each
    with a deadline of its own; the others stay as they are.

    Args:
        client: Redis.
        keys: names of its keys.
        num_tasks: declared tasks.
        is_chosen: of which impressions.

    Returns: by impression, how it is held.
    """
    found: dict[str, bytes] = {}
    arrivals: dict[bytes, bytes] = client.hgetall(keys.arrivals(0))
    for number in [field for field in arrivals if not field.endswith(b"p")]:
        came, passed = _arrival(arrivals[number], arrivals[number + b"p"])
        moved = [(n, ts, imp) for n, (ts, imp) in enumerate(came) if is_chosen(imp)]
        for n, ts, imp in moved:
            labels, body = client.hget(keys.labels(0), imp), client.hget(keys.bodies(0), imp)
            found[imp] = _in_one(ts, labels, body, num_tasks)
            client.zadd(keys.due(0), {f"i:{imp}": min(ts + deadline for deadline, done in passed if done <= n)})
        rest = [one for one in came if not is_chosen(one[1])]
        counts = [(deadline, done - sum(n < done for n, _, _ in moved)) for deadline, done in passed]
        _replace_arrival(client, keys, number, rest, counts)
    for imp in map(bytes.decode, client.hkeys(keys.bodies(0))):
        if is_chosen(imp) and client.zscore(keys.due(0), f"i:{imp}") is not None and imp not in found:
            labels, body = client.hget(keys.labels(0), imp), client.hget(keys.bodies(0), imp)
            found[imp] = _in_one(struct.unpack_from("<Bd", body)[1], labels, body, num_tasks)
    for imp, held in found.items():
        client.hset(keys.pending(0), imp, held)
        client.hdel(keys.labels(0), imp)
        client.hdel(keys.bodies(0), imp)
    if client.hkeys(keys.labels(0)) == [b""]:
        client.delete(keys.labels(0))
    return found


def _arrival(data: bytes, passed: bytes) -> tuple[list[tuple[float, str]], list[tuple[float, int]]]:
    """Impressions by event time; deadlines and how many have come to each."""
    [n] = struct.unpack_from("<I", data)
    ids, came, begin = data[4 + n * _INDEX.size :], [], 0
    for ts, end in _INDEX.iter_unpack(data[4 : 4 + n * _INDEX.size]):
        came.append((ts, ids[begin:end].decode()))
        begin = end
    return came, list(_PASSED.iter_unpack(passed))


def _replace_arrival(
    client: redis.Redis, keys: Keys, number: bytes, came: list[tuple[float, str]], passed: list[tuple[float, int]]
) -> None:
    member = b"c:" + number
    if not came:
        client.hdel(keys.arrivals(0), number, number + b"p")
        client.zrem(keys.due(0), member)
        return
    ids = [imp.encode() for _, imp in came]
    ends = np.cumsum([len(imp) for imp in ids]).tolist()
    index = b"".join(_INDEX.pack(ts, end) for (ts, _), end in zip(came, ends, strict=True))
    data = struct.pack("<I", len(ids)) + index + b"".join(ids)
    client.hset(keys.arrivals(0), mapping={number: data, number + b"p": b"".join(_PASSED.pack(*of) for of in passed)})
    client.zadd(keys.due(0), {member: min(came[done][0] + deadline for deadline, done in passed if done < len(came))})


def _in_one(ts: float, labels: bytes | None, body: bytes, num_tasks: int) -> bytes:
    bits, code = labels[:2] if labels else (0, 8 * (num_tasks - 1))
    told = (labels or bytes(2 + (num_tasks if num_tasks > 1 else 0)))[2:]
    told = told[:-8] if code % 8 == _DROPPED else told
    first = told[: 8 * num_tasks] if bits else bytes(8 * num_tasks)
    head = struct.pack(">BBd", bits, code | (_IS_TODAYS if body[0] else 0), ts) + first
    return head + (told[8 * num_tasks :] if bits else told) + body[9:]


def as_former(held: bytes, event: Impression, fields: Sequence[FieldSettings], actions: Sequence[str]) -> bytes:
    """A held impression as the former script packed it: without the mark of today's, and its body in msgpack.

    Numbers that 32 bits hold take 64 here; whoever reads them takes both.

    Args:
        held: as it is held today.
        event: the impression, which was written to the log at an unknown time.
        fields: declared fields.
        actions: declared actions.
    """
    code = held[1]
    assert code & _IS_TODAYS, "it is a former one already"
    num_tasks = code // 8 % 8 + 1
    at = struct.calcsize(">BBd") + 8 * num_tasks + (num_tasks if num_tasks > 1 else 0)
    if code & _HAS_VALUES:
        at += 1 + held[at] * struct.calcsize(">Bdd")
    core = (event.imp_id, event.user_id, event.item_id, event.ts, 0, FeatureExtractor(fields).extract_from(event))
    shown = shown_of(event)
    body = msgspec.msgpack.encode(core if shown is None else (*core, shown[:6]))
    state = msgspec.msgpack.encode(_state(held[at:], Layout(fields, actions)))
    return bytes([held[0], code - _IS_TODAYS]) + held[2:at] + body + state


def as_version_1(samples: Samples) -> bytes:
    """Samples as an entry of the layout's first version: without what came since."""
    layout = samples.layout
    rows = np.zeros(len(samples), layout.former_dtype)
    for name in layout.former_dtype.names or ():
        rows[name] = samples.rows_B[name]
    whole = samples.encode()
    magic, _, *sizes = HEADER.unpack_from(whole)
    return HEADER.pack(magic, layout.former_tag, *sizes) + whole[HEADER.size : -samples.rows_B.nbytes] + rows.tobytes()


def as_held_by_version_1(held: bytes, layout: Layout) -> bytes:
    """A held impression as a worker of the layout's first version left it: its core without what came since.

    Args:
        held: as it is held today, of one task and without feedback.
        layout: of its samples.
    """
    at = struct.calcsize(">BBdd")
    _, text_size, keys_size, num_actions = CORE_HEAD.unpack_from(held, at)
    head = CORE_HEAD.pack(layout.former_tag, text_size, keys_size, num_actions)
    first = layout.dtype.fields["served_arm"][1] - layout.core_offset  # type: ignore[index]
    cut = at + CORE_HEAD.size + text_size + keys_size + first
    return held[:at] + head + held[at + CORE_HEAD.size : cut] + held[cut + struct.calcsize("<QBd") :]


def _state(body: bytes, layout: Layout) -> list[object]:
    """As the former script packed it: whole numbers as such, and the rate only where it is not 1."""
    _, text_size, keys_size = CORE_HEAD.unpack_from(body)[:3]
    rest = bytes(layout.core_offset) + body[CORE_HEAD.size + text_size + keys_size :]
    [row] = np.frombuffer(rest, layout.dtype)
    names = ["user_counts", "user_norm", "user_norm_version", "user_first_ts", "item_counts", "item_norm"]
    state = [row[name].tolist() for name in (*names, "item_norm_version", "negative_rate")]
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in state]
    return whole[:-1] if whole[-1] == 1 else whole
