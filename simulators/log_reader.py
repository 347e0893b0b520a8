"""Reads a log back from Kafka, from its first offset to a given end, for the oracle."""

import asyncio
from collections.abc import Iterator, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from simulators.oracle import Record
from stream.kafka.security import client_options
from stream.sections import KafkaSettings


def read_log(kafka: KafkaSettings, ends: Mapping[tuple[int, int], int]) -> Iterator[Record]:
    """Every record up to and including the offset `ends[topic index, partition]`, in order within each partition."""
    topics = (kafka.impressions, kafka.feedback)
    loop = asyncio.new_event_loop()

    async def start() -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **client_options(kafka),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level=kafka.isolation,
            max_partition_fetch_bytes=4 << 20,
        )
        await consumer.start()
        tps = [TopicPartition(topics[topic], p) for topic, p in ends]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        return consumer

    consumer = loop.run_until_complete(start())
    left = dict(ends)
    try:
        while left:
            fetched = loop.run_until_complete(consumer.getmany(timeout_ms=500, max_records=20_000))
            for tp, records in fetched.items():
                topic = topics.index(tp.topic)
                end = ends[topic, tp.partition]
                yield from (Record(topic, tp.partition, r.offset, r.value) for r in records if r.offset <= end)
            for topic, partition in list(left):
                # The last offsets may be no records.
                if (
                    loop.run_until_complete(consumer.position(TopicPartition(topics[topic], partition)))
                    > ends[topic, partition]
                ):
                    del left[topic, partition]
    finally:
        loop.run_until_complete(consumer.stop())
        loop.close()
