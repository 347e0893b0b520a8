"""Dead letters: their headers, and the way of those that the join gave up on from Redis to Kafka."""

from collections.abc import Sequence
from typing import Any

import msgspec
import redis

from state_store.keys import Keys
from stream.ingest.rows import DeadLetter

_RELAY_AT_ONCE = 500


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Where a dead letter came from and why, as Kafka headers."""
    return [
        ("topic", letter.topic.encode()),
        ("partition", str(letter.partition).encode()),
        ("offset", str(letter.offset).encode()),
        ("reason", letter.reason.encode()),
    ]


def unrelayed(client: redis.Redis, keys: Keys, partitions: Sequence[int]) -> dict[int, list[tuple[bytes, DeadLetter]]]:
    """Dead letters of the join that wait in Redis, by partition, oldest first, with their ids there.

    The join wrote them in the same atomic call as the fence, so none is lost; a crash between relay and removal can
    relay one twice, with the same topic, partition and offset.
    """
    with client.pipeline(transaction=False) as pipe:
        for p in partitions:
            pipe.xrange(keys.dead(p), count=_RELAY_AT_ONCE)
        found = dict(zip(partitions, pipe.execute(), strict=True))
    return {p: _letters(p, entries) for p, entries in found.items() if entries}


def _letters(partition: int, entries: Any) -> list[tuple[bytes, DeadLetter]]:
    letters = []
    for entry_id, fields in entries:
        event = msgspec.msgpack.decode(fields[b"event"])
        letters.append(
            (
                entry_id,
                DeadLetter(
                    fields[b"topic"].decode(),
                    partition,
                    int(fields[b"offset"]),
                    msgspec.json.encode(event),
                    fields[b"reason"].decode(),
                ),
            )
        )
    return letters


def relay_dead(client: redis.Redis, keys: Keys, partition: int, ids: Sequence[bytes]) -> None:
    """Remove dead letters that are in Kafka now."""
    client.xdel(keys.dead(partition), *ids)
