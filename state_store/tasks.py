"""Tasks: the labels that a sample has, and how each is decided."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from state_store.config import MAX_MS, ActionSettings, JoinSettings

MAX_TASKS = 8
LABEL_COUNTS = ("positive", "negative", "unknown", "late_positive", "late_negative", "correction")
"""What the join counts by task, as in `positive:like`: what base samples say of its label, what is said later of one
that was unknown, and negatives that turned."""


class TaskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One label of a sample.

    While impressions wait for their labels, a task may be appended to the list, but the others keep their places.
    """

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
    positive: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Actions that make the label 1."""
    window_ms: Annotated[int, Meta(ge=0, le=MAX_MS)] = 0
    """An impression without one of them for this long has label 0; 0: `join.window_ms`."""
    attribution_ms: Annotated[int, Meta(ge=0, le=MAX_MS)] = 0
    """Up to this long after the impression one of them turns the label; 0: `join.attribution_ms`."""
    value_unit: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    """Above 0: what is learned is the expected value of the task's one action, as of a watch its seconds, in this unit;
    about the mean of the positives' values is best (`learner/targets.py`). Needs `learner.tasks` = `all`, and is not
    for the main task."""
    main: bool = False
    """Whether samples leave when its window closes, and the model learns this one (others, too, if `learner.tasks` is
    `all`); if no task says so, the first."""


class Task(msgspec.Struct, frozen=True):
    """A task with nothing left open."""

    name: str
    positive: tuple[str, ...]
    window_ms: int
    attribution_ms: int
    is_main: bool
    value_unit: float = 0.0


def resolve_tasks(declared: Sequence[TaskSettings], actions: ActionSettings, join: JoinSettings) -> tuple[Task, ...]:
    """Every task, in the order of the declaration; without one, a task of `actions.positive`.

    Raises:
        ValueError: names an action that is not declared, a window that does not fit, a second main task.

    >>> [task.name for task in resolve_tasks((), ActionSettings(names=("click", "buy")), JoinSettings())]
    ['click']
    """
    if not declared:
        positive = actions.positive or actions.names[:1]
        return (Task("_or_".join(positive), positive, join.window_ms, join.attribution_ms, True),)
    _check(declared, actions, join)
    main = next((n for n, task in enumerate(declared) if task.main), 0)
    return tuple(
        Task(
            task.name,
            task.positive,
            task.window_ms or join.window_ms,
            _attribution_ms(task, join),
            n == main,
            task.value_unit,
        )
        for n, task in enumerate(declared)
    )


def main_task(tasks: Sequence[Task]) -> int:
    """Index of the task that the model learns."""
    return next(n for n, task in enumerate(tasks) if task.is_main)


def horizon_ms(tasks: Sequence[Task], join: JoinSettings) -> int:
    """How long after its impression feedback still counts for anything."""
    return max(join.attribution_ms, *(task.attribution_ms for task in tasks))


def settled_after_ms(tasks: Sequence[Task], join: JoinSettings) -> int:
    """How long after its impression a negative of the main task is settled; 0: it is believed at once.

    >>> like = Task("like", ("like",), 100, 1000, is_main=True)
    >>> short = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50}
    >>> [settled_after_ms([like], JoinSettings(settle_ms=ms, **short)) for ms in (0, 300, 5000)]
    [0, 300, 1000]
    """
    if join.mode == "immediate" or join.settle_ms <= tasks[main_task(tasks)].window_ms:
        return 0
    return min(join.settle_ms, horizon_ms(tasks, join))


def join_options(tasks: Sequence[Task], actions: ActionSettings, join: JoinSettings) -> dict[str, Any]:
    """What the join's script (`lua/apply`) has to know of labels."""
    main = tasks[main_task(tasks)]
    masks = [sum(1 << actions.names.index(name) for name in task.positive) for task in tasks]
    horizon = horizon_ms(tasks, join)
    windows = {task.window_ms for task in tasks if join.early_positives or task.window_ms >= main.window_ms}
    settle_ms = settled_after_ms(tasks, join)
    settling = {settle_ms} if settle_ms else set()
    return {
        **msgspec.to_builtins(join),
        "actions": actions.names,
        "tasks": [
            {
                "name": task.name,
                "positive_mask": mask,
                "window_ms": task.window_ms,
                "attribution_ms": task.attribution_ms,
            }
            for task, mask in zip(tasks, masks, strict=True)
        ],
        "main": main_task(tasks) + 1,
        "settle_ms": settle_ms,
        "attribution_ms": horizon,
        # Delays after an impression at which something is decided.
        "deadlines": [horizon] if join.mode == "immediate" else sorted({*windows, *settling, horizon}),
        # Actions that share a task with another one.
        "rival_mask": reduce(or_, (mask for mask in masks if mask.bit_count() > 1), 0),
    }


def _attribution_ms(task: TaskSettings, join: JoinSettings) -> int:
    return task.attribution_ms or max(join.attribution_ms, task.window_ms)


def _check(declared: Sequence[TaskSettings], actions: ActionSettings, join: JoinSettings) -> None:
    names = [task.name for task in declared]
    if len(set(names)) != len(names):
        raise ValueError(f"tasks: a name is declared twice: {names}")
    if actions.positive:
        raise ValueError(
            f"actions.positive is {list(actions.positive)}, and [[tasks]] are declared: each task has its own "
            "`positive`; leave actions.positive out"
        )
    mains = [task.name for task in declared if task.main]
    if len(mains) > 1:
        raise ValueError(f"tasks: {mains} all say main = true; one model learns one main task, so choose one")
    main = next((n for n, task in enumerate(declared) if task.main), 0)
    for n, task in enumerate(declared):
        if task.value_unit and (n == main or len(task.positive) > 1):
            raise ValueError(
                f"tasks: {task.name!r} has value_unit {task.value_unit:g}: it must not be the main task, and have one "
                f"action, whose value is meant; it is positive by {list(task.positive)}"
            )
        unknown = sorted(set(task.positive) - set(actions.names))
        if unknown:
            raise ValueError(
                f"tasks: {task.name!r} is positive by {unknown}, which actions.names {list(actions.names)} lacks"
            )
        window, attribution = task.window_ms or join.window_ms, _attribution_ms(task, join)
        if not join.lateness_ms <= window <= attribution:
            raise ValueError(
                f"tasks: {task.name!r}: join.lateness_ms <= window_ms <= attribution_ms must hold, got "
                f"{join.lateness_ms}, {window}, {attribution}"
            )


def labels_by_task(
    counts: Mapping[str, int], tasks: Sequence[Task], learned: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """What the join said of each task's labels.

    Args:
        counts: of the fences.
        tasks: all of them.
        learned: names of those that the model learns, if it is not the main one alone.

    >>> like = Task("like", ("like",), 100, 1000, is_main=True)
    >>> labels_by_task({"positive:like": 3, "negative:like": 5, "correction:like": 1}, [like])[0]["rate"]
    0.5
    """
    rows = []
    for task in tasks:
        of = {what: counts.get(f"{what}:{task.name}", 0) for what in LABEL_COUNTS}
        positive = of["positive"] + of["late_positive"] + of["correction"]
        known = of["positive"] + of["negative"] + of["late_positive"] + of["late_negative"]
        waiting = of["unknown"] - of["late_positive"] - of["late_negative"]
        rate = positive / known if known else None
        is_learned = task.is_main if learned is None else task.name in learned
        row = {"task": task.name, "main": task.is_main, "learned": is_learned, **of, "waiting": waiting, "rate": rate}
        row["value_unit"] = task.value_unit
        rows.append(row)
    return rows
