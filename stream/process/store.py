"""The state store of a pipeline, as its settings say."""

import redis

from state_store.states import StateStore
from stream.settings import Settings


def open_store(settings: Settings, client: redis.Redis) -> StateStore:
    """The state store on a connection."""
    return StateStore(client, settings.redis, settings.join, settings.actions, settings.topics, settings.tasks)
