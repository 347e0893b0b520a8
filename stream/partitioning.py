"""Which partition a user's events lie in: Kafka's default partitioner (murmur2 of the key)."""

from functools import lru_cache

from kafka.partitioner.default import murmur2


@lru_cache(maxsize=1 << 18)
def partition_of(user_id: str, num_partitions: int) -> int:
    """Partition of a user, as the Java client, kafka-python and aiokafka choose it from the key `user_id`.

    Producers on librdkafka need `partitioner=murmur2_random`; their default spreads keys otherwise.

    >>> partition_of("u1", 4) in range(4)
    True
    """
    return int(murmur2(user_id.encode()) & 0x7FFFFFFF) % num_partitions
