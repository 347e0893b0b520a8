"""A pipeline under load, and what must come of it whatever dies meanwhile."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from support.logs import synthetic_log

from learner.samples.kind import SampleKind
from simulators.encoding import LogEntry
from simulators.log_reader import read_log
from simulators.logs.log import Log
from simulators.oracle import expect
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from simulators.runs.summary import differences
from state_store.client import connect
from state_store.outbox import Outbox
from stream.command.roles import Role, wait_until
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.process.store import open_store
from stream.settings import Settings


class Load:
    """A replay that is written in the background, and what it must lead to.

    Args:
        live: settings, with URLs.
        num_rows: length of the replay.
        seed: of the replay.
        events_per_s: the pace.
        hold_at: events that are written until `go_on`: whoever waits for a part of them to be learned cannot find
            everything done, however fast the machine is.
        log: another one than a synthetic one, of that length.
    """

    def __init__(
        self,
        live: Settings,
        num_rows: int,
        seed: int,
        events_per_s: float = 3000,
        hold_at: int | None = None,
        log: Log | None = None,
    ) -> None:
        self.live = live
        self.log, self.num_rows, self.partitions = log or synthetic_log(num_rows, seed), num_rows, live.kafka.partitions
        written = Replay(self.log, ReplaySettings(seed=seed), self.partitions, live.join, live.horizon_ms).whole_log()
        self.producer = ReplayProducer(live.kafka, PaceSettings(events_per_s=events_per_s))
        self._held = threading.Event()
        entries = written if hold_at is None else self._until_let_go(written, hold_at)
        self._writer = threading.Thread(target=self.producer.write, args=(entries,), daemon=True)
        self.client = connect(live.redis)
        self.store = open_store(live, self.client)
        self.outbox = Outbox(self.client, live.redis.prefix, self.partitions)

    def start(self) -> None:
        self._writer.start()

    def go_on(self) -> None:
        """Write what was held back, too."""
        self._held.set()

    def _until_let_go(self, log: Iterable[LogEntry], hold_at: int) -> Iterator[LogEntry]:
        for n, entry in enumerate(log):
            if n == hold_at:
                self._held.wait()
            yield entry

    def applied(self) -> int:
        return sum(o + 1 for of in self.store.fence_offsets(range(self.partitions)).values() for o in of.values())

    def learned(self) -> int:
        return sum(int(self.client.get(self.store.keys.learned(p)) or 0) for p in range(self.partitions))

    def finish(self, *roles: Role) -> dict[tuple[int, int], int]:
        """Until everything is written, applied and learned."""
        self._writer.join(120)
        assert not self._writer.is_alive()
        ends = self.producer.end_offsets()
        total = sum(end + 1 for end in ends.values())
        applied, learned = self.applied, self.learned
        wait_until(lambda: applied() >= total, "every record to be applied", roles, progress=applied)
        done = lambda: learned() == sum(self.outbox.sequences().values())  # noqa: E731 - a condition
        wait_until(done, "every sample to be learned", roles, progress=learned)
        self.producer.close()
        return ends

    def check(self, ends: dict[tuple[int, int], int], folder: Path) -> None:
        """Counters and trained samples equal the oracle's."""
        live = self.live
        expected = expect(read_log(live.kafka, ends), live.join, live.actions, live.tasks, live.histories)
        found = differences(self.store, self.partitions, expected)
        assert not found, found
        assert expected.counts["positive"] + expected.counts["negative"] == self.num_rows
        predictions = read_predictions(folder / "predictions")
        trained = dict(predictions["kind"].value_counts().iter_rows())
        counts = {int(kind): expected.counts[kind.name.lower()] for kind in SampleKind}
        assert trained == {kind: count for kind, count in counts.items() if count}
        for n, task in enumerate(self.live.labels):
            final = matured(predictions, None if task.is_main else n)
            assert dict(final.select("imp_id", "label").iter_rows()) == expected.labels[task.name]
        self.client.close()
