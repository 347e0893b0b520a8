"""Can the roles reach the broker, are the topics as they are needed, and is the consumer group theirs?"""

from collections.abc import Iterator

import redis
from aiokafka import codec

from state_store.errors import OperatorError
from stream.checks.finding import Finding, bad, degraded, ok
from stream.kafka.group import client_id, group_of, other_pipeline, strangers
from stream.kafka.topics import Topic, admin, describe_topics
from stream.settings import Settings


def check_codecs() -> Finding:
    """Compressed records are read by libraries that come with this package, if nobody has left them out."""
    able = {"gzip": codec.has_gzip, "snappy": codec.has_snappy, "lz4": codec.has_lz4, "zstd": codec.has_zstd}
    missing = [name for name, has in able.items() if not has()]
    if missing:
        return bad("codecs", f"records compressed with {', '.join(missing)} cannot be read: pip install cramjam")
    return ok("codecs", f"records compressed with {', '.join(able)} can be read")


def check_kafka(settings: Settings, client: redis.Redis | None) -> Iterator[Finding]:
    """Broker, topics, consumer group.

    Args:
        settings: effective settings; `kafka.url` is set.
        client: Redis, if it answers.
    """
    kafka = settings.kafka
    try:
        topics = describe_topics(kafka)
    except OperatorError as exc:
        yield bad("kafka", str(exc))
        return
    yield ok("kafka", f"{kafka.url} answers")
    for topic in settings.topics:
        yield _input(topic, topics.get(topic), kafka.partitions)
    for topic in (kafka.dead_letter, kafka.weights):
        yield ok(f"topic {topic}", "there") if topic in topics else _missing(topic)
    if client is not None:
        yield _group(settings, client)
        yield check_prefix_is_own(settings, client)


def check_prefix_is_own(settings: Settings, client: redis.Redis) -> Finding:
    """Two pipelines under one prefix would fence each other out."""
    try:
        found = other_pipeline(client, settings)
    except redis.RedisError as exc:
        return ok("prefix", f"not looked at ({exc})")
    if found:
        return bad("prefix", f"another pipeline works under {settings.redis.prefix!r}: {found}; give one its own")
    return ok("prefix", f"nobody but this pipeline works under {settings.redis.prefix!r}")


def _missing(topic: str) -> Finding:
    return degraded(f"topic {topic}", "missing; `coldstream topics` makes it, and so does a worker that starts")


def _input(name: str, topic: Topic | None, wanted: int) -> Finding:
    if topic is None:
        return _missing(name)
    if topic.partitions != wanted:
        return bad(f"topic {name}", f"{topic.partitions} partitions, but kafka.partitions is {wanted}; make them equal")
    return ok(f"topic {name}", f"{topic.partitions} partitions")


def _group(settings: Settings, client: redis.Redis) -> Finding:
    group, connection = group_of(settings), admin(settings.kafka)
    try:
        others = strangers(connection, group, client_id(client, settings.redis.prefix))
    except redis.RedisError:
        return ok(f"group {group}", "not looked at, as Redis does not say who is in it")
    finally:
        connection.close()
    if others:
        said = ", ".join(f"{member.client_id} at {member.host.lstrip('/')}" for member in others)
        return bad(
            f"group {group}",
            f"a worker of another pipeline is in it and takes a part of the events ({said}); give one of them a "
            "redis.prefix or kafka.group of its own",
        )
    return ok(f"group {group}", "nobody but this pipeline's workers is in it")
