"""Notices, while a worker runs, that its topics are no longer the log that its state was counted from."""

import time
from concurrent.futures import ThreadPoolExecutor

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from state_store.states import StateStore
from stream.kafka.topics import BrokerUnavailableError, admin, check_input, check_log, describe
from stream.settings import Settings


class LogWatch:
    """Asks the broker for the topics' ids and partition counts.

    Calls block. They share one connection, in a thread of their own.

    Args:
        settings: effective settings.
        store: remembers the ids that the fences belong to.
    """

    def __init__(self, settings: Settings, store: StateStore) -> None:
        self._settings = settings
        self._store = store
        self._client: KafkaAdminClient | None = None
        self._checked_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-watch")

    def check(self, *, older_than_s: float = 0.0) -> None:
        """Compare, unless the last comparison is not that old; blocks until the broker answers.

        Raises:
            OtherLogError: a topic was deleted and made anew.
            TopicMismatchError: partitions were added.
            BrokerUnavailableError: the broker does not answer.
            redis.RedisError: Redis does not answer.
        """
        self._thread.submit(self._check, older_than_s).result()

    def _check(self, older_than_s: float) -> None:
        if time.monotonic() - self._checked_at < older_than_s:
            return
        kafka = self._settings.kafka
        try:
            if self._client is None:
                self._client = admin(kafka)
            topics = describe(self._client, self._settings.topics)
        except (KafkaError, OSError) as exc:
            client, self._client = self._client, None
            if client is not None:
                client.close()
            raise BrokerUnavailableError(f"kafka.url {kafka.url!r}: the broker does not answer ({exc!r})") from exc
        check_log(topics, self._settings, self._store)
        check_input(topics, kafka)
        self._checked_at = time.monotonic()
