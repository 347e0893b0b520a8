"""States of a group in checkpoints: those of all its processes, side by side; and the same for another number of them.

The leader's arrays have the names that a single learner's have, those of process r begin with `rank.<r>.`: a table of
each is a table of its own, and segments are merged as ever. `meta` says how many processes there are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from learner.group.owners import owners
from learner.learner import FORMAT
from learner.named import below
from learner.recipe import Recipe
from learner.tables.saved import FILTER, VALUES

GROUP_FORMAT = 3
"""Of a group's state; a learner of before there were groups leaves it alone."""
State = tuple[dict[str, np.ndarray], dict[str, Any]]
_BY_ROW = ("keys", "fields", "last_ts")


def num_processes(meta: dict[str, Any]) -> int:
    """Of the group whose state it is; 1 of a single learner."""
    return int(meta.get("processes", 1))


def joined_state(parts: Sequence[State], *, spread: bool) -> State:
    """The state of a group, of those of its processes.

    Args:
        parts: in the order of the ranks.
        spread: whether beliefs lie at processes that are not their users'.
    """
    arrays = dict(parts[0][0])
    for rank, (more, _) in enumerate(parts[1:], 1):
        arrays |= {f"rank.{rank}.{name}": array for name, array in more.items()}
    metas = [meta for _, meta in parts]
    return arrays, {
        "format": GROUP_FORMAT,
        "num_samples": sum(int(meta["num_samples"]) for meta in metas),
        "max_ts": max(int(meta["max_ts"]) for meta in metas),
        "processes": len(parts),
        "ranks": metas,
        "beliefs_spread": spread,
    }


def parts_of(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> list[State]:
    """The states of the processes of a group; of a single learner, its own."""
    if num_processes(meta) == 1:
        return [(arrays, meta)]
    spread = {"beliefs_spread": bool(meta["beliefs_spread"])}
    leader = {name: array for name, array in arrays.items() if not name.startswith("rank.")}
    others = [below(f"rank.{rank}.", arrays) for rank in range(1, num_processes(meta))]
    return [(part, {**of_part, **spread}) for part, of_part in zip([leader, *others], meta["ranks"], strict=True)]


def resharded(recipe: Recipe, arrays: dict[str, np.ndarray], meta: dict[str, Any], num_ranks: int) -> State:
    """The state for another number of processes.

    Each user's rows go to the process that learns that user from now on; what is shared, and all that is dense, to
    every one. A belief does not say whose it is: it goes to all, until it is known to be settled. Of what each process
    keeps for itself, the gate's gradients that wait for a step (less than `fast.gate_batch` samples) and the masks'
    random numbers, those of processes that there are no more are lost.

    Args:
        recipe: of the model.
        arrays: the state.
        meta: likewise.
        num_ranks: 1 is a single learner.
    """
    before = parts_of(arrays, meta)
    parts = [_part(recipe, [part for part, _ in before], rank, num_ranks) for rank in range(num_ranks)]
    max_ts = int(meta["max_ts"])
    # Counted where they are summed up.
    counted = [int(meta["num_samples"]) if rank == 0 else 0 for rank in range(num_ranks)]
    metas = [{"format": FORMAT, "num_samples": count, "max_ts": max_ts} for count in counted]
    if num_ranks == 1:
        return parts[0], metas[0]
    return joined_state(list(zip(parts, metas, strict=True)), spread=True)


def _part(recipe: Recipe, before: Sequence[dict[str, np.ndarray]], rank: int, num_ranks: int) -> dict[str, np.ndarray]:
    like = before[rank % len(before)]
    prefixes = [name.removesuffix("last_ts") for name in like if name.endswith("last_ts")]
    part = {name: array for name, array in like.items() if not name.startswith(tuple(prefixes))}
    for prefix in prefixes:
        tables = [below(prefix, arrays) for arrays in before]
        chosen = _chosen(recipe, prefix, tables, rank, num_ranks)
        part |= {prefix + name: array for name, array in _table(tables, chosen, rank).items()}
    return part


def _chosen(
    recipe: Recipe, prefix: str, tables: Sequence[dict[str, np.ndarray]], rank: int, num_ranks: int
) -> list[np.ndarray]:
    """Of each former process' table, which rows go to a process."""
    if prefix.endswith("beliefs."):
        known, chosen = np.zeros(0, np.uint64), []
        for table in tables:
            chosen.append(~np.isin(table["keys"], known))
            known = np.concatenate([known, table["keys"]])
        return chosen
    user, is_crosses = recipe.field("user_id"), prefix.endswith("crosses.")
    chosen = []
    for former, table in enumerate(tables):
        is_shared_N = np.full(len(table["keys"]), True) if is_crosses else table["fields"] != user
        goes_here_N = owners(table["keys"], num_ranks) == rank
        chosen.append(np.where(is_shared_N, former == 0, goes_here_N))
    return chosen


def _table(tables: Sequence[dict[str, np.ndarray]], chosen: Sequence[np.ndarray], rank: int) -> dict[str, np.ndarray]:
    """Rows of several tables as one, numbered anew; the filter is the leader's, which has counted for all."""
    names = [*_BY_ROW, *(name for name in tables[0] if name.startswith(VALUES))]
    columns = {
        name: np.concatenate([table[name][chosen_N] for table, chosen_N in zip(tables, chosen, strict=True)])
        for name in names
    }
    num_rows = len(columns["keys"])
    num_refused = sum(int(table["counters"][2]) for table in tables) if rank == 0 else 0
    made: dict[str, np.ndarray] = {
        "rows": np.arange(1, num_rows + 1, dtype=np.int32),
        "gone": np.zeros(0, np.int32),
        "free": np.zeros(0, np.int32),
        "free_from": np.zeros(1, np.int64),
        "counters": np.array([num_rows + 1, 0, num_refused, 0], np.int64),
    }
    of_filter = {name: array for name, array in tables[0].items() if name.startswith(FILTER)}
    return columns | made | of_filter
