"""What a former version left in the state store, made from what today's leaves there."""

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from learner.config import FieldSettings
from learner.samples.columns import Samples
from learner.samples.layout import CORE_HEAD, HEADER, Layout
from stream.events import Impression
from stream.features import FeatureExtractor, shown_of

_IS_TODAYS, _HAS_VALUES = 128, 64


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
