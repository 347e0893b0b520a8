"""Samples of several tasks: what is known with the base sample, later, or turns."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from support.columns import columns

from learner.config import LearnerSettings, ModelSettings
from learner.fast.config import CrossSettings, FastSettings
from learner.recipe import Recipe, TaskRecipe
from learner.samples.columns import Samples
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from tests.learner.fast.records import FIELDS, make_records

ACTIONS = ("click", "buy", "watch")
TASKS = (
    TaskRecipe("buy", (1,), window_ms=60),
    TaskRecipe("click", (0,), window_ms=60, is_main=True),
    TaskRecipe("watch", (2, 1), window_ms=120),
)
BUY, CLICK, WATCH = range(3)


def make_recipe(model: ModelSettings | None = None, tasks: Sequence[TaskRecipe] = TASKS, **learner: Any) -> Recipe:
    main = next(task for task in tasks if task.is_main)
    return Recipe(
        FIELDS,
        actions=ACTIONS,
        positive=main.positive,
        model=model or ModelSettings(),
        fast=FastSettings(max_rows=5_000, max_cross_rows=20_000, counted_ids=100, factors=8),
        crosses=(CrossSettings(("user_id", "genres")),),
        learner=LearnerSettings(**{"micro_batch": 32, "tasks": "all", **learner}),
        tasks=tuple(tasks),
    )


def make_stream(count: int, seed: int = 0) -> list[Sample]:
    """As the join emits them: `buy` is known with the base sample, `watch` comes behind it, and both may turn."""
    rng = np.random.default_rng(seed + 100)
    liking = rng.normal(size=(3, 64))
    out: list[Sample] = []
    due: list[tuple[int, Sample]] = []
    for n, record in enumerate(make_records(count, seed)):
        while due and due[0][0] <= n:
            out.append(due.pop(0)[1])
        at = int(record.core.item_id[1:])
        buys, watches = (liking[t, at] + rng.normal() > 0.3 for t in (BUY, WATCH))
        turns = rng.random() < 0.3
        labels = (record.label << CLICK) | (int(buys and not turns) << BUY)
        counts = [int(c) for c in rng.integers(0, 5, 3)]
        state = msgspec.structs.replace(
            record.state, user_counts=[n // 30, *counts], item_counts=[n // 40, *(c // 2 for c in counts)]
        )
        base = msgspec.structs.replace(record, state=state, labels=labels, known=(1 << CLICK) | (1 << BUY), task=CLICK)
        out.append(msgspec.structs.replace(base, kind=SampleKind.SHOWN, label=0, labels=0, known=0, delay_ms=-1))
        out.append(base)
        if buys and turns:
            due.append((n + 20, later(base, BUY, 1, 70)))
        if watches and not turns:
            due.append((n + 20, later(base, WATCH, 1, 100)))
        else:
            due.append((n + 20, later(base, WATCH, 0, -1)))
            if watches:
                due.append((n + 21, later(base, WATCH, 1, 500)))
        due.sort(key=lambda entry: entry[0])
    return out + [sample for _, sample in due]


def later(base: Sample, task: int, label: int, delay_ms: int) -> Sample:
    """What becomes known of another task's label."""
    return msgspec.structs.replace(
        base,
        kind=SampleKind.TASK_CORRECTION,
        label=label,
        labels=label << task,
        known=1 << task,
        task=task,
        delay_ms=delay_ms,
    )


def as_main(stream: Sequence[Sample], task: int) -> list[Sample]:
    """The same as if this task were the main one, and each sample without a label of it only shown."""
    told, out = set[str](), []
    for sample in stream:
        of_task = sample.kind == SampleKind.TASK_CORRECTION and sample.task == task
        is_base = sample.kind <= SampleKind.POSITIVE and sample.known & 1 << task
        if not (of_task or is_base):
            out.append(msgspec.structs.replace(sample, kind=SampleKind.SHOWN, label=0))
            continue
        label = sample.label if of_task else int(sample.labels & 1 << task > 0)
        is_turned = sample.core.imp_id in told
        told.add(sample.core.imp_id)
        kind = SampleKind.CORRECTION if is_turned else SampleKind(label)
        out.append(msgspec.structs.replace(sample, kind=kind, label=label))
    return out


def to_samples(records: Sequence[Sample]) -> Samples:
    """As columns."""
    return columns(records, FIELDS, ACTIONS)
