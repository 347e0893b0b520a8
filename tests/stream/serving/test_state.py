"""State that is read on an event loop, from a Redis that goes away and comes back."""

import asyncio
import logging
from pathlib import Path

from support.serving import Trained, with_serving

from state_store.client import connect, connect_on_loop
from state_store.embedded.redis import EmbeddedRedis
from stream.partitioning import partition_of
from stream.serving.scorer import packed_reads
from stream.serving.state import StateReader
from stream.settings import load_settings

TOGETHER = 6
USER = "u1"


def test_once_redis_is_back_no_read_fails_on_a_connection_of_before(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, ("--save", "", "--appendonly", "yes", "--appendfsync", "always")) as server:
        given = {"redis.url": server.url}
        settings = with_serving(load_settings(environment={}, overrides=["kafka.partitions=2"], given=given))
        client = connect(settings.redis)
        Trained(settings, client).count(USER, {"i1": 4}, 12)
        partition = partition_of(USER, settings.kafka.partitions)

        async def ask() -> list[list[bool]]:
            on_loop = connect_on_loop(settings.redis, client)
            reader = StateReader(on_loop, packed_reads(settings), settings.serving.state_timeout_s, logging.getLogger())

            async def known() -> bool:
                state = await reader.read(partition, USER, ["i1"])
                return state is not None and bool(state.user_counts_C.any())

            found = [await asyncio.gather(*(known() for _ in range(TOGETHER)))]
            server.kill()
            found.append([await known()])
            server.start()
            while not await known():
                await asyncio.sleep(0.05)
            for _ in range(3):
                found.append(await asyncio.gather(*(known() for _ in range(TOGETHER))))
            await on_loop.aclose()
            return found

        before, away, *after = asyncio.run(ask())
    assert all(before)
    assert away == [False]
    assert all(map(all, after)), after
