"""`coldstream bench state`: what users and items take in Redis, what it takes to save them, and that they expire.

A made-up stream with a long tail goes through the product's own calls: batches, item sums, norms; the outbox is trimmed
as if all had been learned. For each number of users: bytes per user and per item, by kind, from a sample of the keys;
how long the fill took, a snapshot, an append-only file written anew, and a restart from the snapshot.

Then expiry: users and items with a life of `--life-s` seconds (`redis.user_ttl_s`, `redis.item_ttl_s`) come, and when
that is over, as many others, a day later by event time. The former must be gone, and what waited for labels with them.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import redis
from beside.filling import Filling
from beside.flavours import CLUSTER, Flavour, add_server_option, running
from beside.population import Chunk, Population, chunks
from rich.console import Console
from rich.table import Table

from learner.config import HistorySettings
from state_store.client import connect
from state_store.config import RedisSettings
from state_store.memory.estimate import Estimator, MemoryEstimate, masters
from state_store.memory.kinds import Kind
from stream.command.doctor import versions
from stream.settings import Settings, load_settings

_SAMPLE, _BUDGET_S = 20_000, 120.0
_POLL_S = 0.05
_WAIT_S = 900.0
_T0 = 1_700_000_000_000


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench state", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[100_000], help="how many there are")
    parser.add_argument("--items", type=int, nargs="+", help="to each number of users; default: a tenth")
    parser.add_argument("--per-user", type=float, default=2.0, help="impressions per user, >= 1")
    parser.add_argument("--masters", type=int, choices=(1, CLUSTER), default=1, help="of Redis")
    parser.add_argument("--partitions", type=int, default=4, help="of Kafka; each keeps its part of every item")
    parser.add_argument("--history", type=int, default=0, help="length of a history of likes; default: none")
    parser.add_argument("--life-s", type=int, default=30, help="of the users that are to expire; 0: leave that out")
    parser.add_argument("--expiring", type=int, default=20_000, help="users that are to expire")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_server_option(parser)
    options = parser.parse_args(arguments)
    items = options.items or [max(1, users // 10) for users in options.users]
    if len(items) != len(options.users):
        parser.error(f"--items {items} and --users {options.users} must be as many")
    console, rows = Console(stderr=True), []
    for users, some in zip(options.users, items, strict=True):
        with tempfile.TemporaryDirectory() as folder, console.status(f"{users:,} users, {some:,} items"):
            rows.append(size(options, Population(users, some, options.per_user), Path(folder)))
        _show(rows[-1], console)
    report: dict[str, Any] = {"sizes": rows, "per_user": options.per_user, "partitions": options.partitions}
    if options.life_s:
        with tempfile.TemporaryDirectory() as folder, console.status("expiry"):
            report["expiry"] = expiry(options, Path(folder))
        console.print(f"expiry: {report['expiry']}")
    report |= {"cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(msgspec.json.encode(report).decode())


def _settings(options: argparse.Namespace, url: str, life_s: int | None = None) -> Settings:
    settings = load_settings(overrides=[f"kafka.partitions={options.partitions}", "join.time_users=1"])
    lives = {} if life_s is None else {"user_ttl_s": life_s, "item_ttl_s": life_s}
    histories = (HistorySettings("liked", ("like",), options.history),) if options.history else ()
    return msgspec.structs.replace(settings, redis=RedisSettings(url=url, timeout_s=60, **lives), histories=histories)


def size(options: argparse.Namespace, population: Population, folder: Path) -> dict[str, Any]:
    """What so many take."""
    with running(options.masters, folder, options.server) as servers:
        settings = _settings(options, servers.url)
        client = connect(settings.redis)
        empty = _used(client)
        filling = Filling(settings, client)
        began = time.monotonic()
        for chunk in chunks(population, 1, _T0):
            filling.add(chunk)
        seconds = time.monotonic() - began
        found = _estimate(filling, client)
        used, resident = _used(client), _used(client, "used_memory_rss")
        num_keys = sum(server.dbsize() for server in masters(client))
        in_kinds = sum(row.num_bytes for row in found.kinds)
        row = {
            "users": population.users,
            "items": population.items,
            "impressions": population.num_impressions,
            "masters": options.masters,
            "redis": servers.version,
            "keys": num_keys,
            "fill_s": round(seconds, 2),
            "used_bytes": used,
            "resident_bytes": resident,
            "user_bytes": found.user_bytes,
            "item_bytes": found.item_bytes,
            "kinds": {kind.kind.value: round(kind.num_bytes) for kind in found.kinds},
            "keys_by_kind": {kind.kind.value: round(kind.num_keys) for kind in found.kinds},
            "tables_bytes": round(used - empty - in_kinds),
            "tables_bytes_per_key": round((used - empty - in_kinds) / num_keys, 1),
            "used_bytes_per_user": round((used - empty) / population.users, 1),
        }
        return row | _saved(servers, client, num_keys)


def _estimate(filling: Filling, client: redis.Redis) -> MemoryEstimate:
    store = filling.store
    estimator = Estimator(client, store.keys.prefix, filling.partitions, store.histories.fields)
    return estimator.look(_SAMPLE, _BUDGET_S)


def _used(client: redis.Redis, name: str = "used_memory") -> int:
    """Summed over the masters."""
    return sum(int(server.info("memory")[name]) for server in masters(client))


def _saved(servers: Flavour, client: redis.Redis, num_keys: int) -> dict[str, Any]:
    """How long a snapshot, a rewrite of the append-only file and a restart take; all masters at once."""
    connections = masters(client)

    def until(name: str, wanted: int) -> float:
        began = time.monotonic()
        _wait(lambda: all(c.info("persistence")[name] == wanted for c in connections))
        return round(time.monotonic() - began, 2)

    for connection in connections:
        connection.config_set("appendonly", "yes")
    time.sleep(_POLL_S)
    rewrite_s = until("aof_rewrite_in_progress", 0)
    for connection in connections:
        connection.config_set("appendonly", "no")
        connection.bgsave()
    snapshot_s = until("rdb_bgsave_in_progress", 0)
    sizes = [int(c.info("persistence").get("rdb_last_cow_size", 0)) for c in connections]
    client.close()
    for node in servers.nodes:
        node.kill()
    began = time.monotonic()
    for node in servers.nodes:
        node.start_timeout_s = _WAIT_S
        node.start()
    restart_s = round(time.monotonic() - began, 2)
    again = [redis.Redis(port=node.port) for node in servers.nodes]
    kept = sum(connection.dbsize() for connection in again)
    for connection in again:
        connection.close()
    saved = {"rewrite_s": rewrite_s, "snapshot_s": snapshot_s, "snapshot_copied_bytes": sum(sizes)}
    return saved | {"restart_s": restart_s, "keys_after_restart": kept, "all_came_back": kept == num_keys}


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"Redis is not done after {_WAIT_S:.0f} s")
        time.sleep(_POLL_S)


def expiry(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Old users and items go, and their memory with them, while new ones come."""
    with running(options.masters, folder, options.server) as servers:
        settings = _settings(options, servers.url, options.life_s)
        client = connect(settings.redis)
        filling = Filling(settings, client)
        old = Population(options.expiring, max(1, options.expiring // 10), options.per_user)
        for chunk in chunks(old, 1, _T0):
            filling.add(chunk)
        gone_at = time.monotonic() + options.life_s * 17 / 16 + 1
        full = _told(filling, client)
        _wait(lambda: time.monotonic() > gone_at)
        # A day later: nobody that waited for a label is still waited for.
        for chunk in chunks(old, 2, _T0 + 2 * old.span_ms):
            filling.add(_others(chunk, old))
        began = time.monotonic()
        bound = old.users + options.partitions * old.items
        entities = lambda: sum(_told(filling, client)[kind] for kind in ("users", "items"))  # noqa: E731 - a condition
        _wait(lambda: entities() <= bound)
        return {
            "life_s": options.life_s,
            "before": full,
            "after": _told(filling, client),
            "waited_s": round(time.monotonic() - began, 2),
        }


def _others(chunk: Chunk, old: Population) -> Chunk:
    """The same of users and items that nobody has seen."""
    return msgspec.structs.replace(
        chunk,
        first=chunk.first + old.num_impressions,
        user_N=chunk.user_N + old.users,
        item_N=chunk.item_N + old.items,
    )


def _told(filling: Filling, client: redis.Redis) -> dict[str, int]:
    """Exact numbers of users and items; memory that is used; what waits for labels."""
    whole = {row.kind: row for row in _estimate_all(filling, client).kinds}
    numbers = {kind.value: round(whole[kind].num_keys) if kind in whole else 0 for kind in (Kind.USERS, Kind.ITEMS)}
    joins = round(whole[Kind.JOINS].num_bytes) if Kind.JOINS in whole else 0
    return {**numbers, "joins_bytes": joins, "used_bytes": _used(client)}


def _estimate_all(filling: Filling, client: redis.Redis) -> MemoryEstimate:
    store = filling.store
    return Estimator(client, store.keys.prefix, filling.partitions).look(num_keys=10**9)


def _show(row: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"{row['users']:,} users, {row['items']:,} items, {row['redis']}, {row['masters']} masters")
    for column in ("kind", "keys", "MiB", "bytes each"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, num_bytes in row["kinds"].items():
        keys = row["keys_by_kind"][kind]
        table.add_row(kind, f"{keys:,}", f"{num_bytes / 2**20:,.1f}", f"{num_bytes / keys:,.0f}")
    table.add_row("tables, buffers", "", f"{row['tables_bytes'] / 2**20:,.1f}", f"{row['tables_bytes_per_key']:,.0f}")
    console.print(table)
    console.print(
        f"{row['used_bytes'] / 2**20:,.0f} MiB used, {row['used_bytes_per_user']:,.0f} bytes per user with everything; "
        f"filled in {row['fill_s']} s, rewritten in {row['rewrite_s']} s, saved in {row['snapshot_s']} s, "
        f"started again in {row['restart_s']} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
