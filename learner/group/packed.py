"""Arrays by name, and what was learned, as byte strings."""

from collections.abc import Mapping

import msgspec
import numpy as np

from learner.learned import ByTask, Learned
from learner.named import arrays_in, below
from learner.published.messages import message

_BY_TASK = "by_task."


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name."""
    return message(arrays)


def unpacked(part: bytes | memoryview) -> dict[str, np.ndarray]:
    """The same again, as views of the bytes."""
    return arrays_in(part)


def learned_arrays(learned: Learned) -> dict[str, np.ndarray]:
    """What was learned, by name."""
    columns = {name: getattr(learned, name) for name in Learned.__struct_fields__ if name != "by_task"}
    arrays = {name: column for name, column in columns.items() if column is not None}
    if learned.by_task is not None:
        arrays |= {_BY_TASK + name: column for name, column in msgspec.structs.asdict(learned.by_task).items()}
    return arrays


def learned_in(arrays: Mapping[str, np.ndarray]) -> Learned:
    """The same again."""
    by_task = below(_BY_TASK, arrays)
    columns = {name: arrays[name] for name in Learned.__struct_fields__ if name in arrays}
    return Learned(**columns, by_task=ByTask(**by_task) if by_task else None)


def reordered(learned: Learned, order_B: np.ndarray) -> Learned:
    """The samples of a block in another order.

    Args:
        learned: what they were like.
        order_B: which of them is first, which second, ...
    """
    columns = {name: column[order_B] for name, column in learned_arrays(learned).items() if name != "ages_N"}
    if learned.ages_N is not None and learned.sizes_BF is not None:
        sizes_B = learned.sizes_BF.sum(axis=1)
        begins_B = np.cumsum(sizes_B) - sizes_B
        moved_B = sizes_B[order_B]
        within_N = np.arange(int(moved_B.sum())) - np.repeat(np.cumsum(moved_B) - moved_B, moved_B)
        columns["ages_N"] = learned.ages_N[np.repeat(begins_B[order_B], moved_B) + within_N]
    return learned_in(columns)
