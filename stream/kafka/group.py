"""The workers' consumer group: whose it is, and whether somebody else's worker is in it.

A group's partitions are shared out among its members. Were two pipelines in one, each would get a part of the events.
So the group carries the prefix of the pipeline's keys, and a member's client id the name that its Redis gave it.
"""

from uuid import uuid4

import msgspec
import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from state_store.errors import OperatorError
from state_store.keys import Keys
from stream.process.status import read_workers
from stream.settings import Settings

_CLIENT = "coldstream"
_SILENT_S = 10.0
"""A worker that has not reported for this long is gone."""


class GroupTakenError(OperatorError):
    """Another pipeline's worker is in the consumer group, or works under the prefix."""


class Member(msgspec.Struct, frozen=True):
    """A member of the group."""

    client_id: str
    host: str


def group_of(settings: Settings) -> str:
    """The workers' consumer group."""
    return f"{settings.kafka.group}.{settings.redis.prefix}"


def client_id(client: redis.Redis, prefix: str) -> str:
    """What workers on this Redis and prefix call themselves; made up at the first call, the same ever after."""
    key = Keys(prefix).pipeline_id
    found = client.get(key)
    if found is None:
        client.set(key, uuid4().hex[:12], nx=True)
        found = client.get(key)
    assert isinstance(found, bytes)
    return f"{_CLIENT}-{found.decode()}"


def strangers(admin: KafkaAdminClient, group: str, own: str) -> list[Member]:
    """Members of a group that are not of this pipeline; none where the broker does not tell.

    Args:
        admin: asks.
        group: consumer group.
        own: this pipeline's `client_id`.
    """
    try:
        found = admin.describe_groups([group]).get(group, {})
    except (KafkaError, KeyError, ValueError, AttributeError, NotImplementedError):
        return []
    members = (Member(str(m["client_id"]), str(m["client_host"])) for m in found.get("members", ()))
    return [member for member in members if not member.client_id.startswith(own)]


def other_pipeline(client: redis.Redis, settings: Settings) -> str:
    """Who works under this prefix for other topics, or in another group, now; empty if nobody does.

    Both would take each partition from each other, and fence each other out.
    """
    group, topics = group_of(settings), list(settings.topics)
    for name, report in read_workers(client, settings.redis.prefix, _SILENT_S).items():
        if report.get("topics", topics) != topics:
            return f"worker {name} reads topics {report['topics']}, not {topics}"
        if report.get("group", group) != group:
            return f"worker {name} is in group {report['group']!r}, not {group!r}"
    return ""


def check_prefix(client: redis.Redis, settings: Settings) -> None:
    """Refuse a prefix under which another pipeline works.

    Raises:
        GroupTakenError: it names the worker and what to do.
    """
    found = other_pipeline(client, settings)
    if found:
        raise GroupTakenError(
            f"redis.prefix {settings.redis.prefix!r} is another pipeline's: {found}; give this one a redis.prefix of "
            "its own, or stop that worker first"
        )


def check_group(admin: KafkaAdminClient, settings: Settings, own: str) -> None:
    """Refuse a group in which another pipeline's worker is.

    Raises:
        GroupTakenError: it names the group, the member and what to do.
    """
    group = group_of(settings)
    others = strangers(admin, group, own)
    if others:
        raise GroupTakenError(
            f"consumer group {group!r} has a member of another pipeline ({others[0].client_id} at "
            f"{others[0].host.lstrip('/')}), which would take a part of the events; give this pipeline a redis.prefix "
            "or a kafka.group of its own. If that member's Redis was this one until it was emptied, stop it first"
        )
