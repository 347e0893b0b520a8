"""The pipeline's topics: made if missing, refused if they do not fit."""

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from state_store.errors import OperatorError
from stream.events import MAX_RECORD_BYTES
from stream.settings import KafkaSettings


class BrokerUnavailableError(OperatorError):
    """No broker answers at the configured address."""


class TopicMismatchError(OperatorError):
    """A topic exists, but not as the settings need it."""


def admin(kafka: KafkaSettings) -> KafkaAdminClient:
    """An admin client.

    Raises:
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """
    try:
        return KafkaAdminClient(bootstrap_servers=kafka.url.split(","), bootstrap_timeout_ms=4000)
    except (KafkaError, OSError, ValueError) as exc:
        raise BrokerUnavailableError(
            f"kafka.url {kafka.url!r}: no broker answers there ({exc or type(exc).__name__}). "
            "Start Kafka or correct the address (HOST:PORT[,HOST:PORT]); an empty one starts an embedded broker."
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
