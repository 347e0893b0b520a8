"""The state store of a pipeline, as its settings say."""

import time
from collections.abc import Callable, Iterable

import redis
from redis.exceptions import ClusterError, RedisClusterException

from learner.config import BY_SAMPLE
from learner.samples.layout import Layout
from state_store.client import RedisUnavailableError, connect
from state_store.config import RedisSettings
from state_store.entities.histories import Histories, KeptHistory, history_field
from state_store.keys import Keys
from state_store.refusals import refusal, told
from state_store.states import StateStore
from stream.process.weather import Weather
from stream.settings import Settings

_STEP = "open"
_LOOK_S = 0.2
_PROBE_MS = 1000


def open_store(settings: Settings, client: redis.Redis) -> StateStore:
    """The state store on a connection."""
    histories = kept_histories(settings.recipe.layout)
    return StateStore(
        client, settings.redis, settings.join, settings.actions, settings.topics, settings.tasks, histories
    )


def kept_histories(layout: Layout) -> Histories:
    """What the state store has to know of the histories that samples of a layout carry."""
    if not layout.histories:
        return Histories()
    kept = tuple(
        KeptHistory(
            history_field(history.name, history.by),
            sum(1 << layout.actions.index(action) for action in history.actions),
            history.length,
        )
        for history in layout.histories
    )
    places = (layout.key_offset("item_id"), *(layout.key_offset(history.by) for history in layout.histories))
    # Impressions may be held that passed before there were histories: what comes of them is kept all the same.
    bare = tuple(-1 if layout.has_codes and at == layout.key_offset(BY_SAMPLE) else at for at in places)
    return Histories(kept, layout.tag, {layout.tag: places, layout.bare_tag: bare})


def probe_writes(client: redis.Redis, prefix: str, partitions: Iterable[int]) -> None:
    """Write a key of each partition, as they may lie on different servers; it is gone soon after.

    Raises:
        redis.RedisError: one does not answer, or refuses.
    """
    with client.pipeline(transaction=False) as pipe:
        for partition in partitions:
            pipe.set(Keys(prefix).probe(partition), 1, px=_PROBE_MS)
        pipe.execute()


def connect_when_ready(
    settings: RedisSettings, weather: Weather, asked_to_stop: Callable[[], bool] = lambda: False
) -> redis.Redis | None:
    """Connect as `connect` does, and wait for a Redis that is there and not ready; None if asked to stop meanwhile.

    Raises:
        RedisUnavailableError: nothing answers at `redis.url`, or it does not let us in: that does not pass by itself.
    """
    while not asked_to_stop():
        try:
            client = connect(settings)
        except RedisUnavailableError as exc:
            cause = exc.__cause__
            if cause is None or not _is_there(cause):
                raise
            until = time.monotonic() + weather.failed(_STEP, told(cause))
            while time.monotonic() < until and not asked_to_stop():
                time.sleep(_LOOK_S)
        else:
            weather.passed(_STEP)
            return client
    return None


def _is_there(cause: BaseException) -> bool:
    """Whether a Redis answered that is loading, busy, or a part of a cluster that is down."""
    # Which rights a user has is decided by somebody, and not by time.
    return refusal(cause) not in {"", "NOPERM"} or isinstance(cause, ClusterError | RedisClusterException)
