"""One consumer process: reads topics to their end and prints how fast it went, as JSON.

`python consumers.py plain|coalesced BROKER TOPIC[,TOPIC] NUM_EVENTS`: an agent that decodes every event and does
nothing else, once on stock Faust with `stream.take`, once on the coalescing consumer.
"""

import json
import os
import sys
import time
from typing import Any

import faust

from stream.events import decode_event
from stream.ingest.consumer.coalesce import coalescing_app
from stream.ingest.consumer.faust_app import CODEC, run_app

_TAKE = 1024


class Stopwatch:
    """Counts from the first batch on, which is not counted itself: joining the group is not what is measured."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        self._first = 0
        self._start = (0.0, 0.0)

    def saw(self, count: int) -> None:
        """A batch was decoded; ends the process after the last one."""
        self._seen += count
        if not self._first:
            self._first = count
            self._start = time.perf_counter(), time.process_time()
        if self._seen < self._total:
            return
        wall, cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        counted = self._seen - self._first
        print(json.dumps({"events_per_s": counted / wall, "cpu_us_per_event": cpu / counted * 1e6}), flush=True)
        os._exit(0)


def main(kind: str, broker: str, topics: list[str], num_events: int) -> None:
    """Consume until `num_events` were seen."""
    watch = Stopwatch(num_events)
    group = f"bench-{kind}-{os.getpid()}"
    if kind == "plain":
        app = faust.App(
            group,
            broker=f"kafka://{broker}",
            store="memory://",
            web_enabled=False,
            topic_disable_leader=True,
            broker_session_timeout=6.0,
            broker_heartbeat_interval=2.0,
        )

        @app.agent(app.topic(*topics, value_serializer="raw"))
        async def take(stream: Any) -> None:
            async for values in stream.take(_TAKE, within=0.2):
                for value in values:
                    decode_event(value)
                watch.saw(len(values))
    else:
        # From the earliest offsets on: this consumer goes nowhere by itself where nothing was committed.
        app = coalescing_app(group, broker, 256, lambda earliest, is_over: earliest)

        @app.agent(app.topic(*topics, value_serializer=CODEC, key_serializer="raw"))
        async def batches(stream: Any) -> None:
            async for event in stream.events():
                for record in event.value.records:
                    decode_event(record.value)
                watch.saw(len(event.value.records))

    run_app(app)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3].split(","), int(sys.argv[4]))
