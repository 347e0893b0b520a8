"""The Redis that a benchmark runs on: one server or a cluster of three masters, of this executable or that."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis
from support.redis_cluster import EmbeddedRedisCluster

from state_store.embedded.redis import EmbeddedRedis

_FORGETS = ("--save", "")
CLUSTER = 3
"""Masters of a cluster: fewer cannot agree that one is gone."""


class Flavour(msgspec.Struct, frozen=True):
    """Servers that run."""

    url: str
    nodes: list[EmbeddedRedis]
    cluster: EmbeddedRedisCluster | None = None

    @property
    def pids(self) -> list[int]:
        """Process id of each master."""
        return [node.pid for node in self.nodes]

    @property
    def version(self) -> str:
        """Name and number, as `valkey 9.1.2`."""
        with redis.Redis.from_url(self.url) as client:
            said: Any = client.info("server")
        return f"valkey {said['valkey_version']}" if "valkey_version" in said else f"redis {said['redis_version']}"

    def port_of(self, key: str) -> int:
        """Of the master that holds a key."""
        if self.cluster is None:
            return self.nodes[0].port
        return self.cluster.node_of(key).port


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """`--server`."""
    said = "executable of another Redis or Valkey than the embedded 6.2"
    parser.add_argument("--server", type=Path, help=said)


@contextmanager
def running(
    num_masters: int, folder: Path, executable: Path | None, options: tuple[str, ...] = _FORGETS
) -> Iterator[Flavour]:
    """Servers that keep nothing on disk, unless options say so.

    Args:
        num_masters: 1, or `CLUSTER`.
        folder: of their own.
        executable: None: the embedded one.
        options: for redis-server.
    """
    if num_masters == 1:
        folder.mkdir(parents=True, exist_ok=True)
        with EmbeddedRedis(folder, options, executable) as server:
            yield Flavour(server.url, [server])
        return
    with EmbeddedRedisCluster(folder, options, executable) as cluster:
        yield Flavour(cluster.url, cluster.nodes, cluster)
