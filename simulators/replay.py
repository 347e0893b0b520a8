"""A rating log as an event stream: each rating is an impression; a high one is followed by a `like` after a while.

Delays are log-normal; some exceed the join window. Some events are written twice, some later than their time says.
Everything follows from the seed.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta

from simulators.logs.movielens import MovieLens
from state_store.config import JoinSettings
from stream.events import Feedback, Heartbeat, Impression, encode_event
from stream.partitioning import partition_of

_POSITIVE_RATING = 4
_IMPRESSION, _FEEDBACK = 0, 1
_DRIFT = 1
"""Stream of random numbers that the drift has for itself."""

Share = Annotated[float, Meta(ge=0, le=1)]


class ReplaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a log becomes a stream."""

    num_ratings: Annotated[int, Meta(ge=0)] = 0
    """Ratings replayed, oldest first; 0: all."""
    delay_median_s: Annotated[float, Meta(gt=0)] = 20.0
    """Median of the delay of a like, event time."""
    delay_sigma: Annotated[float, Meta(ge=0)] = 1.5
    """Standard deviation of the delay's logarithm."""
    duplicates: Share = 0.01
    """Share of events written a second time."""
    out_of_order: Share = 0.02
    """Share of events written late."""
    jitter_s: Annotated[float, Meta(ge=0)] = 30.0
    """Greatest delay of an event written late, or again; what exceeds join.lateness_ms becomes a dead letter."""
    seed: int = 7
    drift_at: Annotated[int, Meta(ge=0)] = 0
    """Number of the event from which on the labels of some users are inverted; 0: never."""
    drift_share: Share = 0.0
    """Share of users, drawn by the seed, whose labels are."""

    def __post_init__(self) -> None:
        if bool(self.drift_at) != bool(self.drift_share):
            raise ValueError(
                f"a drift needs an event and a share of users, both above 0, got {self.drift_at} and {self.drift_share}"
            )


class LogEntry(msgspec.Struct, frozen=True):
    """One record to write."""

    topic: Literal[0, 1]
    """Index into the input topics: impressions, feedback."""
    partition: int
    key: bytes | None
    value: bytes


class Plan(msgspec.Struct, frozen=True):
    """The order of a replay: position n writes `topic_N[n]` of rating `rating_N[n]` at event time `ts_N[n]`."""

    topic_N: np.ndarray
    rating_N: np.ndarray
    ts_N: np.ndarray
    num_ratings: int
    end_ts: int

    def __len__(self) -> int:
        return len(self.topic_N)


def plan_replay(data: MovieLens, settings: ReplaySettings) -> Plan:
    """Draw delays, duplicates and disorder; if wished, invert some users' labels from some event on."""
    count = min(settings.num_ratings or len(data.ratings), len(data.ratings))
    ratings = data.ratings.head(count)
    is_liked = ratings["rating"].to_numpy() >= _POSITIVE_RATING
    plan = _plan(ratings, is_liked, settings)
    if not settings.drift_at:
        return plan
    of_impression = plan.topic_N == _IMPRESSION
    from_there = np.flatnonzero(of_impression & (np.arange(len(plan)) >= settings.drift_at))
    if not len(from_there):
        raise ValueError(f"the drift begins at event {settings.drift_at}, of {len(plan)}; begin it earlier")
    users = sorted(set(ratings["user_id"]))
    inverted = np.random.default_rng([settings.seed, _DRIFT]).random(len(users)) < settings.drift_share
    chosen = ratings["user_id"].is_in([u for u, yes in zip(users, inverted, strict=True) if yes]).to_numpy()
    begun = np.arange(count) >= plan.rating_N[from_there[0]]
    return _plan(ratings, is_liked ^ (chosen & begun), settings)


def _plan(ratings: pl.DataFrame, is_liked: np.ndarray, settings: ReplaySettings) -> Plan:
    rng = np.random.default_rng(settings.seed)
    count = len(ratings)
    shown_ts = ratings["ts"].to_numpy()
    liked = np.flatnonzero(is_liked)
    delay_ms = np.exp(rng.normal(np.log(settings.delay_median_s), settings.delay_sigma, len(liked))) * 1000
    topic = np.concatenate([np.full(count, _IMPRESSION, np.int8), np.full(len(liked), _FEEDBACK, np.int8)])
    rating = np.concatenate([np.arange(count), liked])
    ts = np.concatenate([shown_ts, shown_ts[liked] + delay_ms.astype(np.int64)])
    written = ts + np.where(
        rng.random(len(ts)) < settings.out_of_order, rng.uniform(0, settings.jitter_s * 1000, len(ts)), 0.0
    )
    again = np.flatnonzero(rng.random(len(ts)) < settings.duplicates)
    written = np.concatenate([written, ts[again] + rng.uniform(0, settings.jitter_s * 1000, len(again))])
    topic, rating, ts = (np.concatenate([a, a[again]]) for a in (topic, rating, ts))
    order = np.argsort(written, kind="stable")
    return Plan(topic[order], rating[order], ts[order], count, int(ts.max(initial=0)))


def iter_log(data: MovieLens, plan: Plan, num_partitions: int) -> Iterator[LogEntry]:
    """The records of a plan, in the order they are written."""
    users, items = data.ratings["user_id"].to_list(), data.ratings["item_id"].to_list()
    for topic, n, ts in zip(plan.topic_N.tolist(), plan.rating_N.tolist(), plan.ts_N.tolist(), strict=True):
        user_id, item_id = users[n], items[n]
        event: Impression | Feedback
        if topic == _IMPRESSION:
            event = Impression(
                imp_id=f"r{n}",
                user_id=user_id,
                item_id=item_id,
                ts=ts,
                features={**data.users[user_id], **data.items[item_id]},
            )
        else:
            event = Feedback(imp_id=f"r{n}", user_id=user_id, item_id=item_id, action="like", ts=ts)
        yield LogEntry(topic, partition_of(user_id, num_partitions), user_id.encode(), encode_event(event))


def closing_heartbeats(plan: Plan, num_partitions: int, join: JoinSettings) -> Iterator[LogEntry]:
    """One heartbeat per topic and partition, far enough ahead to close every window of the join."""
    horizon_ms = 2 * (join.attribution_ms + join.lateness_ms)
    beat = encode_event(Heartbeat(ts=plan.end_ts + horizon_ms))
    for partition in range(num_partitions):
        for topic in (_IMPRESSION, _FEEDBACK):
            yield LogEntry(topic, partition, None, beat)  # type: ignore[arg-type]


def iter_whole_log(data: MovieLens, plan: Plan, num_partitions: int, join: JoinSettings) -> Iterator[LogEntry]:
    """A plan's records, and the heartbeats behind them that close every window of the join."""
    yield from iter_log(data, plan, num_partitions)
    yield from closing_heartbeats(plan, num_partitions, join)
