"""The pipeline's topics: made if missing, refused if they do not fit."""

from collections.abc import Iterable, Mapping

import msgspec
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from state_store.errors import OperatorError
from state_store.states import StateStore
from stream.events import MAX_RECORD_BYTES
from stream.kafka.advertised import advertised_problem
from stream.kafka.group import group_of
from stream.kafka.security import client_options, tls_problem
from stream.sections import KafkaSettings
from stream.settings import Settings


class BrokerUnavailableError(OperatorError):
    """No broker answers at the configured address."""


class OtherLogError(OperatorError):
    """A topic is not the log that the state in Redis was counted from."""


class TopicMismatchError(OperatorError):
    """A topic exists, but not as the settings need it."""


def admin(kafka: KafkaSettings) -> KafkaAdminClient:
    """An admin client.

    Raises:
        BrokerUnavailableError: nothing answers at `kafka.url`, or brokers advertise addresses that do not work here.
    """
    try:
        client = KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=4000)
    except (KafkaError, OSError, ValueError) as exc:
        if problem := tls_problem(kafka):
            raise BrokerUnavailableError(f"kafka.url {kafka.url!r}: {problem}") from exc
        raise BrokerUnavailableError(
            f"kafka.url {kafka.url!r}: no broker answers there ({exc or type(exc).__name__}). "
            "Start Kafka, or correct the address (HOST:PORT[,HOST:PORT]) or kafka.security; an empty address starts an "
            "embedded broker."
        ) from exc
    # No public call tells them without talking to one of them.
    brokers = [(str(broker.host), int(broker.port)) for broker in client._manager.cluster.brokers()]
    if problem := advertised_problem(brokers):
        client.close()
        raise BrokerUnavailableError(f"kafka.url {kafka.url!r}: {problem}")
    return client


class Topic(msgspec.Struct, frozen=True):
    """A topic as the broker has it."""

    partitions: int
    log_id: str
    """Given by the broker when the topic was made; empty if it gives none."""


def describe(client: KafkaAdminClient, names: Iterable[str]) -> dict[str, Topic]:
    """Those of the named topics that exist."""
    existing = set(client.list_topics())
    wanted = [name for name in names if name in existing]
    found = client.describe_topics(wanted) if wanted else []
    # One that is deleted between the two questions comes back with an error and without partitions.
    return {
        topic["name"]: Topic(len(topic["partitions"]), str(topic.get("topic_id") or ""))
        for topic in found
        if topic["partitions"]
    }


def describe_topics(kafka: KafkaSettings) -> dict[str, Topic]:
    """The pipeline's topics, as far as they exist."""
    client = admin(kafka)
    try:
        return describe(client, (kafka.impressions, kafka.feedback, kafka.dead_letter, kafka.weights))
    finally:
        client.close()


def log_ids(topics: Mapping[str, Topic], settings: Settings) -> dict[str, str]:
    """Id of each input topic's log; a topic that the broker gives none is left out."""
    return {name: topics[name].log_id for name in settings.topics if name in topics and topics[name].log_id}


def check_input(topics: Mapping[str, Topic], kafka: KafkaSettings) -> None:
    """Check the input topics' partition counts.

    Raises:
        TopicMismatchError: one differs from `kafka.partitions`.
    """
    for name in (kafka.impressions, kafka.feedback):
        if name in topics and topics[name].partitions != kafka.partitions:
            raise TopicMismatchError(
                f"topic {name!r} has {topics[name].partitions} partitions, kafka.partitions is {kafka.partitions}. "
                "Users are spread by that number: if partitions were added to a live topic, users are split over two "
                "histories, so use new topics; if this pipeline never read it, set "
                f"kafka.partitions={topics[name].partitions}"
            )


def check_log(topics: Mapping[str, Topic], settings: Settings, store: StateStore) -> None:
    """Check that the topics are those whose offsets Redis holds: another log's records must not pass for duplicates.

    Raises:
        OtherLogError: a topic was deleted and made anew, or a broker in memory was restarted.
    """
    other = store.other_logs(log_ids(topics, settings))
    if other:
        raise OtherLogError(
            f"topic {other[0]!r} is not the log that redis.prefix {settings.redis.prefix!r} was counted from: it was "
            "made anew, or its broker forgot it. To go on with the counters and the new log, run "
            "`coldstream topics --new-log` with the same settings; to start over, set another redis.prefix"
        )


def ensure_topics(kafka: KafkaSettings) -> dict[str, Topic]:
    """Make missing topics and check the input topics' partitions; returns what is there then.

    Raises:
        TopicMismatchError: an input topic has another number of partitions than `kafka.partitions`.
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """
    found = describe_topics(kafka)
    check_input(found, kafka)
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
        except TopicAlreadyExistsError:
            pass  # another worker, or the broker by itself at someone's question, was first
        finally:
            client.close()
        found = describe_topics(kafka)
        check_input(found, kafka)
    return found


def remove_topics(settings: Settings) -> None:
    """Delete a pipeline's topics and its workers' group, as far as they exist: of one made for a single run."""
    kafka = settings.kafka
    client = admin(kafka)
    try:
        names = list(describe(client, (kafka.impressions, kafka.feedback, kafka.dead_letter, kafka.weights)))
        if names:
            client.delete_topics(names)
        client.delete_groups([group_of(settings)])
    finally:
        client.close()
