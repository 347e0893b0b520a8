"""A Redis Cluster of three masters on loopback."""

import random
import socket
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Self

import redis

from state_store.embedded.redis import EmbeddedRedis

_NUM_SLOTS = 16_384
_BUS_OFFSET = 10_000
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
"""Nothing is forgotten when a node is killed."""
_OPTIONS = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1500")


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ports_with_bus(count: int) -> list[int]:
    """Free ports whose cluster bus, 10,000 above, is free, too.

    Both are below those that Linux gives to clients, and no node's bus can be another's port.
    """
    candidates = random.sample(range(12_000, 12_000 + _BUS_OFFSET), _BUS_OFFSET)
    return list(islice((p for p in candidates if _is_free(p) and _is_free(p + _BUS_OFFSET)), count))


class EmbeddedRedisCluster:
    """Three masters, each in a folder of its own.

    Args:
        folder: of their folders.
        options: of each, for redis-server.
        executable: another server than the one that is found.
    """

    def __init__(self, folder: Path, options: tuple[str, ...] = DURABLE, executable: Path | None = None) -> None:
        self.nodes = []
        for n, port in enumerate(_ports_with_bus(3)):
            (folder / str(n)).mkdir(parents=True)
            node = EmbeddedRedis(folder / str(n), (*options, *_OPTIONS), executable)
            node.port = port
            self.nodes.append(node)

    @property
    def url(self) -> str:
        """Address of one node; clients learn the others from it."""
        return self.nodes[0].url

    def node_of(self, key: str) -> EmbeddedRedis:
        """The master that holds a key."""
        with redis.Redis(port=self.nodes[0].port) as client:
            slot = client.execute_command("CLUSTER KEYSLOT", key)
        return self.nodes[slot * len(self.nodes) // _NUM_SLOTS]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._stack = stack.pop_all()
        bounds = [-(-n * _NUM_SLOTS // len(self.nodes)) for n in range(len(self.nodes) + 1)]
        for node, low, high in zip(self.nodes, bounds[:-1], bounds[1:], strict=True):
            with redis.Redis(port=node.port) as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(low, high))
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        deadline = time.monotonic() + 20
        while not all(self.is_ok(node) for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.1)
        return self

    def is_ok(self, node: EmbeddedRedis) -> bool:
        """Whether a node knows all and finds every slot served."""
        with redis.Redis(port=node.port) as client:
            info = client.execute_command("CLUSTER INFO")
        text = info.decode() if isinstance(info, bytes) else str(info)
        known = "cluster_known_nodes:3" in text or "'cluster_known_nodes': '3'" in text
        return known and ("cluster_state:ok" in text or "'cluster_state': 'ok'" in text)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
