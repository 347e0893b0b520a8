"""`coldstream bench loop`: how soon after an event is recorded does the scorer answer with weights that learned it?

Broker, Redis, learner, worker and scorer run as in `coldstream up`, with `publish.interval_s = 1`, while others' events
come at `--rate`. A probe is an impression and its positive feedback. The clock starts when the feedback is handed to
Kafka's client, and ends with the first answer of `/v1/score` whose version has learned the probe's positive sample, by
what that version's manifest says. `join.early_positives` is on: without it, an impression's label waits for its window
(`join.window_ms`, event time), whatever the pipeline does.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from support.serving import AS_DECLARED, CONTEXT, ITEM, Http, with_serving

from learner.samples.former import read_entry
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from state_store.client import connect
from state_store.outbox import Outbox
from state_store.weights import WeightStore
from stream.command.doctor import versions
from stream.command.roles import Role, servers
from stream.events import Event, Feedback, Impression, encode_event
from stream.partitioning import partition_of
from stream.serving.address import serving_url
from stream.settings import Settings, load_settings

_LOOK_S = 0.01
_USERS, _ITEMS = 2000, 500
_SHARE_LIKED = 0.3
_GIVE_UP_S = 60.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Writer:
    """Writes events as they happen."""

    def __init__(self, live: Settings) -> None:
        self._live = live
        self._producer = Producer({"bootstrap.servers": live.kafka.url, "linger.ms": 0})

    def shown(self, imp_id: str, user: str, item: str) -> None:
        features = {**CONTEXT, **ITEM}
        event = Impression(imp_id=imp_id, user_id=user, item_id=item, ts=_now_ms(), features=features)
        self._write(self._live.kafka.impressions, event, user)

    def liked(self, imp_id: str, user: str, item: str) -> None:
        action = self._live.actions.names[0]
        event = Feedback(imp_id=imp_id, user_id=user, item_id=item, action=action, ts=_now_ms())
        self._write(self._live.kafka.feedback, event, user)

    def close(self) -> None:
        self._producer.flush(10)

    def _write(self, topic: str, event: Event, user: str) -> None:
        partition = partition_of(user, self._live.kafka.partitions)
        self._producer.produce(topic, encode_event(event), key=user.encode(), partition=partition)
        self._producer.poll(0)


class Learned:
    """Knows which sample is whose, and which version has learned it."""

    def __init__(self, live: Settings) -> None:
        client, prefix, partitions = connect(live.redis), live.redis.prefix, live.kafka.partitions
        self._outbox, self._weights = Outbox(client, prefix, partitions), WeightStore(client, prefix)
        self._layout = Layout(live.fields, live.actions.names)
        self._cursor = self._outbox.sequences()
        self._places: dict[str, tuple[int, int]] = {}
        """Impression -> partition and sequence number of its positive."""
        self._versions: list[int] = []
        self._learned: list[dict[str, int]] = []

    def look(self) -> None:
        """Read what is new."""
        newest = self._weights.latest()
        if newest is not None and (not self._versions or newest.version > self._versions[-1]):
            self._versions.append(newest.version)
            self._learned.append(newest.learned)
        for entry in self._outbox.read(self._cursor, max_entries=100).entries:
            samples = read_entry(entry.payload, self._layout)
            first = entry.sequence - len(samples) + 1
            for n in np.flatnonzero(samples.rows_B["kind"] == SampleKind.POSITIVE).tolist():
                self._places[samples.imp_ids[n]] = entry.partition, first + n
            self._cursor[entry.partition] = entry.sequence

    def has(self, version: int, imp_id: str) -> bool:
        """Whether a version, or the newest known one before it, has learned an impression's positive."""
        place, at = self._places.get(imp_id), bisect_right(self._versions, version)
        return place is not None and at > 0 and self._learned[at - 1].get(str(place[0]), 0) >= place[1]


@contextmanager
def others(writer: Writer, rate: float) -> Iterator[None]:
    """Impressions of others, and feedback to some of them, at a rate of impressions/s."""
    done, rng = threading.Event(), np.random.default_rng(1)

    def write() -> None:
        began, count = time.monotonic(), 0
        while not done.wait(0.02):
            while count < (time.monotonic() - began) * rate:
                imp_id, user, item = f"other-{count}", f"u{rng.integers(_USERS)}", f"i{rng.integers(_ITEMS)}"
                writer.shown(imp_id, user, item)
                if rng.random() < _SHARE_LIKED:
                    writer.liked(imp_id, user, item)
                count += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def probe(number: int, writer: Writer, learned: Learned, http: Http) -> float | None:
    """Seconds from the feedback to a score that has learned it; None if there was none in time."""
    imp_id, user, item = f"probe-{number}", f"u{number % _USERS}", f"i{number % _ITEMS}"
    asked = {"user": user, "context": CONTEXT, "candidates": [{"item": item, "features": ITEM}]}
    writer.shown(imp_id, user, item)
    time.sleep(0.2)
    began = time.monotonic()
    writer.liked(imp_id, user, item)
    while time.monotonic() - began < _GIVE_UP_S:
        # Timed before the manifests are read: one that is read late makes a later answer count, never an earlier one.
        version = http.post("/v1/score", asked)["version"]
        took = time.monotonic() - began
        learned.look()
        if learned.has(version, imp_id):
            return took
        time.sleep(_LOOK_S)
    return None


def measure(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    rng, times, missed = np.random.default_rng(2), [], 0
    with servers(settings) as live, tempfile.TemporaryDirectory() as scratch, ExitStack() as roles:
        for name in ("learner", "worker", "serve"):
            roles.enter_context(Role(name, live, Path(scratch)))
        http, writer = Http(serving_url(live.serving)), Writer(live)
        http.wait(seconds=120)
        roles.callback(writer.close)
        with others(writer, options.rate):
            time.sleep(options.warm_up)
            learned = Learned(live)
            for number in range(options.probes):
                # Or probes would fall into step with the publishes that end them.
                time.sleep(float(rng.uniform(0, options.interval)))
                took = probe(number, writer, learned, http)
                if took is None:
                    missed += 1
                else:
                    times.append(took)
    found: dict[str, float | None] = {
        f"learned_p{p}_s": round(float(np.percentile(times, p)), 3) for p in (50, 99) if times
    }
    return {**found, "learned_max_s": round(max(times), 3) if times else None, "probes": len(times), "missed": missed}


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench loop", description=__doc__)
    parser.add_argument("--probes", type=int, default=100, help="default 100")
    parser.add_argument("--rate", type=float, default=500.0, help="others' impressions/s (default 500)")
    parser.add_argument("--interval", type=float, default=1.0, help="publish.interval_s (default 1)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds before the first probe (default 10)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    overrides = [f"kafka.url={options.kafka!r}", f"publish.interval_s={options.interval}", "monitor.enabled=false"]
    overrides += ["join.early_positives=true", "worker.idle_after_ms=500", *options.set]
    report = measure(with_serving(load_settings(environment={}, overrides=overrides), **AS_DECLARED), options)
    print("event to a score that has learned it:", *(f"p{p} {report.get(f'learned_p{p}_s')} s" for p in (50, 99)))
    report |= {"rate": options.rate, "interval_s": options.interval, "cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
