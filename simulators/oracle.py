"""What a log must lead to, counted independently: plain Python over the whole log, no Redis, no batches.

The exact part of the pipeline is a function of the log alone: counters, one base sample per impression, final labels,
the user's impressions as of each impression. This module states that function as directly as it can be said.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from learner.config import HistorySettings
from learner.samples.keys import NO_KEY, value_key
from state_store.config import ActionSettings, JoinSettings
from state_store.tasks import Task, TaskSettings, horizon_ms, main_task, resolve_tasks, settled_after_ms


class Record(msgspec.Struct, frozen=True):
    """One record of the log, as read back."""

    topic: int
    """0 impressions, 1 feedback."""
    partition: int
    offset: int
    value: bytes


History = list[tuple[int, int, int]]
"""Event time, key of the item, key of its category of each entry, ascending."""


class Shown(msgspec.Struct, frozen=True):
    """An impression that counts."""

    ts: int
    user: str
    item: str
    features: Mapping[str, Any]


class Expected(msgspec.Struct):
    """Totals that the pipeline must reach."""

    counts: Counter[str]
    """impressions, feedback, shown, settled, positive, negative, correction, task_correction, dropped, orphan,
    late, duplicate_*, malformed, heartbeat; and by task, as in `positive:like`: positive, negative, unknown,
    late_positive, late_negative, correction."""
    users: dict[str, Counter[str]]
    items: dict[str, Counter[str]]
    labels: dict[str, dict[str, int]]
    """Task -> impression id -> final label, of those that are learned from."""
    user_impressions: dict[str, int]
    """Impression id -> the user's impressions before it, of those that are learned from."""
    shown: dict[str, Shown]
    """Impression id -> the impression."""
    histories: dict[str, dict[str, History]]
    """History -> user -> everything that was ever appended."""

    def history_before(self, name: str, imp_id: str, length: int) -> History:
        """What of a user's history the samples of an impression carry."""
        shown = self.shown[imp_id]
        return [entry for entry in self.histories[name].get(shown.user, []) if entry[0] < shown.ts][-length:]


class _EventTime:
    """Event time of one topic partition, by agreement; tells late records by the order of their own topic."""

    def __init__(self, join: JoinSettings) -> None:
        self._join = join
        self._top: int | None = None
        self._claims: dict[str, int] = {}

    def in_time(self, user: str, ts: int) -> bool:
        agreeing = self._join.time_users
        if user not in self._claims and len(self._claims) == 2 * agreeing - 1:
            # Whoever came first of them goes.
            del self._claims[next(iter(self._claims))]
        self._claims[user] = ts
        if len(self._claims) >= agreeing:
            self.beat(sorted(self._claims.values())[-agreeing])
        return self._top is None or ts >= self._top - self._join.lateness_ms

    def beat(self, ts: int) -> None:
        self._top = ts if self._top is None else max(self._top, ts)


def expect(
    records: Iterable[Record],
    join: JoinSettings,
    actions: ActionSettings,
    declared: Sequence[TaskSettings] = (),
    histories: Sequence[HistorySettings] = (),
) -> Expected:
    """Run the log through the rules of the join.

    Args:
        records: every record, in offset order within each topic partition.
        join: the join section.
        actions: the actions section.
        declared: the tasks section.
        histories: the histories section.
    """
    tasks = resolve_tasks(declared, actions, join)
    clocks: dict[tuple[int, int], _EventTime] = {}
    feedback: list[tuple[str, str, str, str, int]] = []
    out = Expected(Counter(), {}, {}, {task.name: {} for task in tasks}, {}, {}, {of.name: {} for of in histories})
    for record in records:
        try:
            event = json.loads(record.value)
            ts, kind = event["ts"], event["type"]
        except (ValueError, KeyError, TypeError):
            out.counts["malformed"] += 1
            continue
        clock = clocks.setdefault((record.topic, record.partition), _EventTime(join))
        if kind == "heartbeat":
            out.counts["heartbeat"] += 1
            clock.beat(ts)
            continue
        out.counts["impressions" if kind == "impression" else "feedback"] += 1
        if not clock.in_time(event["user_id"], ts):
            out.counts["late"] += 1
        elif kind == "impression":
            _show(out, event)
        else:
            feedback.append((event["imp_id"], event["action"], event["user_id"], event["item_id"], ts))
    came = _attribute(out, feedback, join, tasks)
    for history in histories:
        _append(out, came, history)
    return out


def _show(out: Expected, event: dict[str, Any]) -> None:
    imp_id, user, item = event["imp_id"], event["user_id"], event["item_id"]
    if imp_id in out.shown:
        out.counts["duplicate_impression"] += 1
        return
    out.shown[imp_id] = Shown(int(event["ts"]), user, item, event.get("features") or {})
    of_user = out.users.setdefault(user, Counter())
    out.user_impressions[imp_id] = of_user["impressions"]
    of_user["impressions"] += 1
    out.items.setdefault(item, Counter())["impressions"] += 1


def _attribute(
    out: Expected, feedback: list[tuple[str, str, str, str, int]], join: JoinSettings, tasks: Sequence[Task]
) -> dict[str, dict[str, int]]:
    shown = out.shown
    came: dict[str, dict[str, int]] = {imp_id: {} for imp_id in shown}
    horizon = horizon_ms(tasks, join)
    for imp_id, action, user, item, ts in feedback:
        if imp_id not in shown or not -join.lateness_ms <= ts - shown[imp_id].ts <= horizon:
            out.counts["orphan"] += 1
        elif action in came[imp_id]:
            out.counts["duplicate_feedback"] += 1
        else:
            came[imp_id][action] = ts - shown[imp_id].ts
            out.users.setdefault(user, Counter())[action] += 1
            out.items.setdefault(item, Counter())[action] += 1
    if join.as_served and join.mode == "window":
        out.counts["shown"] = len(shown)
    for imp_id in shown:
        _label(out, imp_id, came[imp_id], join, tasks)
    return came


def _append(out: Expected, came: Mapping[str, Mapping[str, int]], history: HistorySettings) -> None:
    """Every action of a history's, at its event time, but never before its impression."""
    of = out.histories[history.name]
    for imp_id, delays in came.items():
        shown = out.shown[imp_id]
        value = shown.features.get(history.by)
        keys = value_key("item_id", shown.item), NO_KEY if value is None else value_key(history.by, str(value))
        entries = [(shown.ts + max(delay, 0), *keys) for action, delay in delays.items() if action in history.actions]
        of.setdefault(shown.user, []).extend(entries)
    for entries in of.values():
        entries.sort()


def _label(out: Expected, imp_id: str, came: dict[str, int], join: JoinSettings, tasks: Sequence[Task]) -> None:
    """What samples an impression makes, and what becomes of each of its labels.

    Args:
        out: counts them.
        imp_id: the impression.
        came: action -> its delay, of the feedback that counts.
        join: the join section.
        tasks: all of them.
    """
    delays = [
        min((d for action, d in came.items() if action in task.positive and d <= task.attribution_ms), default=None)
        for task in tasks
    ]
    main = main_task(tasks)
    delay, window = delays[main], tasks[main].window_ms
    is_sampled = _may_be_negative(imp_id, out.user_impressions[imp_id], join)
    if delay is None and not is_sampled:
        del out.user_impressions[imp_id]
        out.counts["dropped"] += 1
        return
    in_window = join.mode == "window" and delay is not None and delay <= window
    is_positive = in_window or not is_sampled
    # Of the labels of other tasks, the base sample knows what was decided while it waited.
    settle_ms = settled_after_ms(tasks, join)
    waited_ms = -math.inf if in_window and join.early_positives else window
    for task, of_task in zip(tasks, delays, strict=True):
        out.labels[task.name][imp_id] = int(of_task is not None)
        if task.is_main:
            told = ["positive"] if is_positive else ["negative"] + ["correction"] * (of_task is not None)
            out.counts.update(told)
            if settle_ms and not is_positive:
                out.counts["settled"] += of_task is None or of_task > settle_ms
        else:
            told = _told(task, of_task, join, waited_ms)
            out.counts["task_correction"] += len(told) - 1
        out.counts.update(f"{what}:{task.name}" for what in told)


def _told(task: Task, delay: int | None, join: JoinSettings, waited_ms: float) -> list[str]:
    """What the base sample says of another task's label, and what the samples behind it say."""
    turned = ["correction"] * (delay is not None)
    if join.mode == "immediate":
        return ["negative", *turned]
    if delay is not None and delay <= min(task.window_ms, waited_ms):
        return ["positive"]
    if task.window_ms <= waited_ms:
        return ["negative", *turned]
    if delay is not None and delay <= task.window_ms:
        return ["unknown", "late_positive"]
    return ["unknown", "late_negative", *turned]


def _may_be_negative(imp_id: str, earlier: int, join: JoinSettings) -> bool:
    """Whether an impression is among the share of those that negatives are taken from."""
    if earlier < join.negative_rate_from:
        return True
    return int(hashlib.sha1(imp_id.encode()).hexdigest()[:8], 16) < join.negative_rate * 2**32
