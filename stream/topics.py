"""The pipeline's topics: made if missing, refused if they do not fit."""

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from state_store.errors import OperatorError
from state_store.states import StateStore
from stream.events import MAX_RECORD_BYTES
from stream.security import client_options
from stream.settings import KafkaSettings, Settings


class BrokerUnavailableError(OperatorError):
    """No broker answers at the configured address."""


class OtherLogError(OperatorError):
    """A topic is not the log that the state in Redis was counted from."""


class TopicMismatchError(OperatorError):
    """A topic exists, but not as the settings need it."""


def admin(kafka: KafkaSettings) -> KafkaAdminClient:
    """An admin client.

    Raises:
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """
    try:
        return KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=4000)
    except (KafkaError, OSError, ValueError) as exc:
        raise BrokerUnavailableError(
            f"kafka.url {kafka.url!r}: no broker answers there ({exc or type(exc).__name__}). "
            "Start Kafka, or correct the address (HOST:PORT[,HOST:PORT]) or kafka.security; an empty address starts an "
            "embedded broker."
        ) from exc


def describe_topics(kafka: KafkaSettings) -> dict[str, int]:
    """Partition count of each topic that exists on the broker."""
    client = admin(kafka)
    try:
        existing = set(client.list_topics())
        wanted = [t for t in (kafka.impressions, kafka.feedback, kafka.dead_letter, kafka.weights) if t in existing]
        found = client.describe_topics(wanted) if wanted else []
        return {topic["name"]: len(topic["partitions"]) for topic in found}
    finally:
        client.close()


def log_ids(kafka: KafkaSettings) -> dict[str, str]:
    """Id of each input topic's log; a topic that the broker gives none is left out."""
    client = admin(kafka)
    try:
        found = client.describe_topics([kafka.impressions, kafka.feedback])
        return {topic["name"]: str(topic["topic_id"]) for topic in found if topic.get("topic_id")}
    finally:
        client.close()


def ensure_same_log(settings: Settings, store: StateStore) -> None:
    """Check that the topics are those whose offsets Redis holds: another log's records must not pass for duplicates.

    Raises:
        OtherLogError: a topic was deleted and made anew, or a broker in memory was restarted.
    """
    other = store.other_logs(log_ids(settings.kafka))
    if other:
        raise OtherLogError(
            f"topic {other[0]!r} is not the log that redis.prefix {settings.redis.prefix!r} was counted from: it was "
            "made anew, or its broker forgot it. To go on with the counters and the new log, run "
            "`coldstream topics --new-log` with the same settings; to start over, set another redis.prefix"
        )


def ensure_topics(kafka: KafkaSettings) -> dict[str, int]:
    """Make missing topics and check the input topics' partitions; returns partition counts.

    Raises:
        TopicMismatchError: an input topic has another number of partitions than `kafka.partitions`.
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """
    found = describe_topics(kafka)
    for topic in (kafka.impressions, kafka.feedback):
        if found.get(topic, kafka.partitions) != kafka.partitions:
            raise TopicMismatchError(
                f"topic {topic!r} has {found[topic]} partitions, kafka.partitions is {kafka.partitions}; users are "
                f"spread by that number, so set kafka.partitions={found[topic]} or use another topic"
            )
    wanted: dict[str, dict[str, object]] = {
        kafka.impressions: {"num_partitions": kafka.partitions},
        kafka.feedback: {"num_partitions": kafka.partitions},
        kafka.dead_letter: {"num_partitions": 1, "configs": {"max.message.bytes": str(MAX_RECORD_BYTES + (1 << 16))}},
        kafka.weights: {"num_partitions": 1, "configs": {"cleanup.policy": "compact"}},
    }
    missing = {
        name: {"replication_factor": kafka.replication, **options}
        for name, options in wanted.items()
        if name not in found
    }
    if missing:
        client = admin(kafka)
        try:
            client.create_topics(missing, wait_for_metadata=True)
        finally:
            client.close()
    return describe_topics(kafka)
