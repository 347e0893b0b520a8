"""`coldstream bench script`: CPU time of joining batches, by Redis' script and in the worker's memory.

The calls that a worker would make of a log are made once, and then given to one Redis after the other, each with the
script of one checkout, or to `stream.join` (`compiled`), in turns, `--repeats` of each. Nobody else asks these servers
anything, so what they compute is the join; the least CPU time is what a busy machine disturbs least. And whether the
state is the same, which tells an optimisation from a change. Another checkout's script must take the same arguments
(`state_store/lua/apply/00_contract.lua`).
"""

import argparse
import sys
import time
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec
import psutil
import redis
from beside.batches import Batches, now_ms
from beside.running import ROOT, ControlError
from beside.turns import cpu_s
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table
from support.state import state_of

from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from state_store.client import connect, script_text
from state_store.embedded.redis import EmbeddedRedis
from state_store.records import Call, Reading, Span
from state_store.states import StateStore
from stream.command.doctor import versions
from stream.ingest.rows import Decoded, RowDecoder
from stream.join.join import CompiledJoin
from stream.process.store import open_store
from stream.settings import Settings, load_settings

_LUA, _SCRIPT = Path("state_store") / "lua", "apply"
_ROUND = 4096
"""Events that are cut into batches together."""


class Batch(msgspec.Struct, frozen=True):
    """What one call applies."""

    topic: str
    partition: int
    span: Span
    decoded: Decoded


def batches(settings: Settings, log: Log, num_rows: int) -> list[Batch]:
    """A log in calls."""
    replay = Replay(log, ReplaySettings(num_rows=num_rows), settings.kafka.partitions, settings.join)
    decoder = RowDecoder(settings.topics[0], settings.fields, settings.actions, settings.events, settings.histories)
    cut, entries, found = Batches(settings), replay.whole_log(), list[Batch]()
    while some := list(islice(entries, _ROUND)):
        for topic, partition, records in cut.of(some):
            decoded = decoder.decode(topic, partition, records, now_ms())
            found.append(Batch(topic, partition, Span(records[0].offset, records[-1].offset), decoded))
    return found


def script_of(checkout: Path) -> str:
    """The script of a checkout.

    Raises:
        ControlError: it has none.
    """
    if not (checkout / _LUA / _SCRIPT).is_dir():
        raise ControlError(f"--control {checkout}: no folder {_LUA / _SCRIPT} in it; give the folder of a checkout")
    return script_text(_SCRIPT, checkout / _LUA)


def run(text: str | None, settings: Settings, calls: list[Batch]) -> tuple[float, float, str]:
    """CPU seconds of Redis and of this process, and a digest of what the state is afterwards.

    Args:
        text: of the script; None: joined in this process' memory.
        settings: effective settings.
        calls: what is applied.
    """
    with EmbeddedRedis() as server:
        settings = msgspec.structs.replace(settings, redis=msgspec.structs.replace(settings.redis, url=server.url))
        client = connect(settings.redis)
        store = open_store(settings, client)
        join: StateStore | CompiledJoin = store
        if text is None:
            join = CompiledJoin(store)
            join.warm_up()
        else:
            store._apply = client.register_script(text)
        epochs = [store.open_epoch(partition) for partition in range(settings.kafka.partitions)]
        process, at = psutil.Process(server.pid), now_ms()
        begun, own = cpu_s(process), time.process_time()
        for call in calls:
            rows, cores = call.decoded.rows, b"".join(call.decoded.cores)
            epoch = epochs[call.partition]
            asked = Call(call.partition, call.topic, call.span, epoch, rows, cores, reading=Reading(at))
            more = join.apply_call(asked).more
            while more:
                more = join.tick(call.partition, epoch, Reading(at)).more
        return cpu_s(process) - begun, time.process_time() - own, digest(client, settings.redis.prefix)


def digest(client: redis.Redis, prefix: str) -> str:
    """Of the whole state, but for what the wall clock decides."""
    return blake2b(repr(sorted(state_of(client, prefix).items())).encode(), digest_size=8).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="coldstream bench script", description=__doc__)
    parser.add_argument("--events", type=int, default=60_000, help="rows of the log")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--control", type=Path, action="append", default=[], help="another checkout; may come again")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--json", action="store_true")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    log = chosen_log(options, options.events)
    settings = load_settings(overrides=options.set, defaults=log.settings)
    scripts: dict[str, str | None] = {"this": script_of(ROOT), "compiled": None}
    scripts |= {str(folder): script_of(folder) for folder in options.control}
    calls = batches(settings, log, options.events)
    num_records = sum(len(call.decoded.rows) for call in calls)
    seconds: dict[str, list[float]] = {name: [] for name in scripts}
    own_seconds: dict[str, list[float]] = {name: [] for name in scripts}
    digests: dict[str, set[str]] = {name: set() for name in scripts}
    for _ in range(options.repeats):
        for name, text in scripts.items():
            took, own, state = run(text, settings, calls)
            seconds[name].append(1e6 * took / num_records)
            own_seconds[name].append(1e6 * own / num_records)
            digests[name].add(state)
    results = [
        {
            "script": name,
            "us_min": round(min(took), 2),
            "us_median": round(median(took), 2),
            "ratio": round(min(took) / min(seconds["this"]), 3),
            "own_us_min": round(min(own_seconds[name]), 2),
            "same_state": digests[name] == digests["this"],
        }
        for name, took in seconds.items()
    ]
    report = {
        "records": num_records,
        "calls": len(calls),
        "results": results,
        "data": log.source,
        "versions": versions(),
    }
    if options.json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{num_records:,} records in {len(calls):,} calls: CPU of Redis, us per record")
    for column in ("script", "least", "median", "ratio of the least", "this process, least", "same state"):
        table.add_column(column, justify="left" if column == "script" else "right")
    for row in results:
        table.add_row(
            row["script"],
            *(f"{row[name]:.2f}" for name in ("us_min", "us_median", "ratio", "own_us_min")),
            str(row["same_state"]),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
