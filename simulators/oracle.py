"""What a log must lead to, counted independently: plain Python over the whole log, no Redis, no batches.

The exact part of the pipeline is a function of the log alone: counters, one base sample per impression, final labels,
the user's impressions as of each impression. This module states that function as directly as it can be said.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

import msgspec

from state_store.config import ActionSettings, JoinSettings


class Record(msgspec.Struct, frozen=True):
    """One record of the log, as read back."""

    topic: int
    """0 impressions, 1 feedback."""
    partition: int
    offset: int
    value: bytes


class Expected(msgspec.Struct):
    """Totals that the pipeline must reach."""

    counts: Counter[str]
    """impressions, feedback, positive, negative, correction, dropped, orphan, late, duplicate_*, malformed,
    heartbeat."""
    users: dict[str, Counter[str]]
    items: dict[str, Counter[str]]
    labels: dict[str, int]
    """Impression id -> final label, of those that are learned from."""
    user_impressions: dict[str, int]
    """Impression id -> the user's impressions before it, of those that are learned from."""


class _EventTime:
    """Greatest event time of one topic partition; tells late records by the order of their own topic."""

    def __init__(self, join: JoinSettings) -> None:
        self._join = join
        self._top: int | None = None
        self._leap: list[int] = []

    def in_time(self, ts: int) -> bool:
        if self._top is None:
            self._top = ts
            return True
        if ts > self._top + self._join.max_jump_ms:
            self._leap.append(ts)
            if len(self._leap) >= self._join.jump_confirmations:
                self._top, self._leap = min(self._leap), []
            return True
        self._leap = []
        self._top = max(self._top, ts)
        return ts >= self._top - self._join.lateness_ms

    def beat(self, ts: int) -> None:
        self._leap = []
        self._top = ts if self._top is None else max(self._top, ts)


def expect(records: Iterable[Record], join: JoinSettings, actions: ActionSettings) -> Expected:
    """Run the log through the rules of the join.

    Args:
        records: every record, in offset order within each topic partition.
        join: the join section.
        actions: the actions section.
    """
    clocks: dict[tuple[int, int], _EventTime] = {}
    shown: dict[str, tuple[int, str, str]] = {}
    feedback: list[tuple[str, str, str, str, int]] = []
    out = Expected(Counter(), {}, {}, {}, {})
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
        if not clock.in_time(ts):
            out.counts["late"] += 1
        elif kind == "impression":
            _show(out, shown, event)
        else:
            feedback.append((event["imp_id"], event["action"], event["user_id"], event["item_id"], ts))
    _attribute(out, shown, feedback, join, actions)
    return out


def _show(out: Expected, shown: dict[str, tuple[int, str, str]], event: dict[str, str]) -> None:
    imp_id, user, item = event["imp_id"], event["user_id"], event["item_id"]
    if imp_id in shown:
        out.counts["duplicate_impression"] += 1
        return
    shown[imp_id] = int(event["ts"]), user, item
    of_user = out.users.setdefault(user, Counter())
    out.user_impressions[imp_id] = of_user["impressions"]
    of_user["impressions"] += 1
    out.items.setdefault(item, Counter())["impressions"] += 1


def _attribute(
    out: Expected,
    shown: dict[str, tuple[int, str, str]],
    feedback: list[tuple[str, str, str, str, int]],
    join: JoinSettings,
    actions: ActionSettings,
) -> None:
    first_positive: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for imp_id, action, user, item, ts in feedback:
        if imp_id not in shown or not -join.lateness_ms <= ts - shown[imp_id][0] <= join.attribution_ms:
            out.counts["orphan"] += 1
        elif (imp_id, action) in seen:
            out.counts["duplicate_feedback"] += 1
        else:
            seen.add((imp_id, action))
            out.users.setdefault(user, Counter())[action] += 1
            out.items.setdefault(item, Counter())[action] += 1
            if action in actions.positive:
                first_positive[imp_id] = min(ts, first_positive.get(imp_id, ts))
    for imp_id, (shown_ts, _, _) in shown.items():
        positive_ts = first_positive.get(imp_id)
        out.labels[imp_id] = int(positive_ts is not None)
        if not _may_be_negative(imp_id, out.user_impressions[imp_id], join):
            if positive_ts is None:
                del out.labels[imp_id], out.user_impressions[imp_id]
                out.counts["dropped"] += 1
            else:
                out.counts["positive"] += 1
        elif join.mode == "window" and positive_ts is not None and positive_ts - shown_ts <= join.window_ms:
            out.counts["positive"] += 1
        else:
            out.counts["negative"] += 1
            out.counts["correction"] += positive_ts is not None


def _may_be_negative(imp_id: str, earlier: int, join: JoinSettings) -> bool:
    """Whether an impression is among the share of those that negatives are taken from."""
    if earlier < join.negative_rate_from:
        return True
    return int(hashlib.sha1(imp_id.encode()).hexdigest()[:8], 16) < join.negative_rate * 2**32
