"""`coldstream bench producers`: the replay's producer (librdkafka) against kafka-python's, on one broker, in one run.

Both write the same records, encoded beforehand, to new topics of the same broker, in turns: first one, then the other,
and the other way round the next time. Both wait for every acknowledgement and are idempotent. Rates are those of
records that the broker has; what is compared is the ratio within each pair of turns.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
from beside.turns import with_interval
from chosen_log import add_log_options, chosen_log
from kafka import KafkaProducer
from rich.console import Console
from rich.table import Table

from simulators.encoding import LogEntry
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from state_store.config import JoinSettings
from stream.command.doctor import versions
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.security import client_options
from stream.kafka.topics import ensure_topics
from stream.sections import KafkaSettings


def with_librdkafka(kafka: KafkaSettings, entries: Sequence[LogEntry]) -> dict[tuple[int, int], int]:
    """As `coldstream replay` writes; returns the offset of each partition's last record."""
    producer = ReplayProducer(kafka, PaceSettings())
    producer.write(entries)
    ends = producer.end_offsets()
    producer.close()
    return ends


def with_kafka_python(kafka: KafkaSettings, entries: Sequence[LogEntry]) -> dict[tuple[int, int], int]:
    """The same, with kafka-python; its own defaults wait for every acknowledgement and are idempotent, too."""
    producer = KafkaProducer(**client_options(kafka), linger_ms=10, batch_size=1 << 16)
    topics, last = (kafka.impressions, kafka.feedback), {}
    for entry in entries:
        last[entry.topic, entry.partition] = producer.send(
            topics[entry.topic], value=entry.value, key=entry.key, partition=entry.partition
        )
    producer.flush()
    ends: dict[tuple[int, int], int] = {tp: future.get(timeout=30).offset for tp, future in last.items()}
    producer.close()
    return ends


WRITERS: dict[str, Callable[[KafkaSettings, Sequence[LogEntry]], dict[tuple[int, int], int]]] = {
    "librdkafka": with_librdkafka,
    "kafka_python": with_kafka_python,
}


def turn(url: str, name: str, number: int, entries: Sequence[LogEntry]) -> dict[str, float]:
    """One producer writes everything to topics of its own; connecting counts, as it does for whoever replays."""
    topic = f"bench-{os.getpid()}-{name}-{number}"
    kafka = KafkaSettings(url=url, impressions=topic, feedback=f"{topic}-feedback")
    ensure_topics(kafka)
    wall, cpu = time.perf_counter(), time.process_time()
    ends = WRITERS[name](kafka, entries)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    written = sum(end + 1 for end in ends.values())
    if written != len(entries):
        raise RuntimeError(f"{name}: {written} records are in the log, {len(entries)} were to be")
    return {"records_per_s": len(entries) / wall, "cpu_us_per_record": cpu / len(entries) * 1e6}


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench producers", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="rows of the log")
    parser.add_argument("--repeats", type=int, default=4, help="turns of each producer")
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    replay = Replay(
        chosen_log(options, options.events),
        ReplaySettings(num_rows=options.events),
        KafkaSettings().partitions,
        JoinSettings(),
    )
    entries = list(replay.whole_log())
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WRITERS}
    with ExitStack() as stack:
        url = options.kafka or stack.enter_context(EmbeddedBroker()).url
        for name in WRITERS:
            # A new broker's first writer waits for it to set itself up.
            turn(url, name, -1, entries[:1000])
        for number in range(options.repeats):
            for name in WRITERS if number % 2 == 0 else reversed(WRITERS):
                with console.status(f"turn {number + 1} of {options.repeats}: {name}"):
                    runs[name].append(turn(url, name, number, entries))
    report = compared(runs) | {"records": len(entries), "cores": os.cpu_count(), "versions": versions()}
    table = Table(title=f"{len(entries):,} records, {sum(len(e.value) for e in entries) / len(entries):.0f} bytes each")
    for column in ("producer", "median records/s", "least", "greatest", "CPU us/record"):
        table.add_column(column, justify="left" if column == "producer" else "right")
    for name, figures in report["producers"].items():
        rates = figures["records_per_s"]
        shown = (f"{f(rates):,.0f}" for f in (statistics.median, min, max))
        table.add_row(name.replace("_", "-"), *shown, f"{figures['cpu_us_per_record']:.1f}")
    console.print(table)
    low, high = report["ratio_interval"] or (math.nan, math.nan)
    console.print(f"librdkafka writes {report['ratio']:.1f} times as fast (95 % interval {low:.1f} to {high:.1f})")
    if options.json:
        print(msgspec.json.encode(report).decode())


def compared(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Rates, and the ratio of each pair of turns: its geometric mean and interval, as ratios multiply."""
    pairs = zip(runs["librdkafka"], runs["kafka_python"], strict=True)
    found = with_interval([math.log(a["records_per_s"] / b["records_per_s"]) for a, b in pairs])
    mean, half = found["mean"] or 0.0, found["plus_minus"]
    return {
        "ratio": round(math.exp(mean), 2),
        "ratio_interval": None if half is None else [round(math.exp(mean + side * half), 2) for side in (-1, 1)],
        "producers": {
            name: {
                "records_per_s": [round(run["records_per_s"], 1) for run in results],
                "cpu_us_per_record": round(statistics.median(run["cpu_us_per_record"] for run in results), 2),
            }
            for name, results in runs.items()
        },
    }


if __name__ == "__main__":
    main(sys.argv[1:])
