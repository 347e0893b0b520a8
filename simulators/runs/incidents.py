"""What real clusters do to a pipeline, one at a time: each incident is what holds while a slice of the log is written.

None of them may change what comes of the log: counters, samples and what the learner trained on stay equal to what an
offline pass gives.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import redis

from simulators.encoding import LogEntry
from simulators.runs.log_writer import CODECS, LogWriter
from simulators.runs.ranks import one_of, writer_of
from state_store.states import StateStore
from stream.command.roles import Role, wait_until
from stream.settings import Settings

_LASTS_S = (0.3, 2.0)
_SECOND_LASTS_S = (4.0, 8.0)
"""Long enough for another process to come up."""
_STALLED_S = 180.0
_CALL = "import sys, redis; redis.Redis.from_url(sys.argv[1]).eval('while true do end', 0)"
"""Somebody's endless script."""

Way = Callable[[Sequence[LogEntry], Role, Role], None]


def is_applied(store: StateStore, topics: Sequence[str], ends: Mapping[tuple[int, int], int]) -> bool:
    """Whether the fences are at the ends of the log.

    Args:
        store: the pipeline's state.
        topics: of the input.
        ends: (topic index, partition) -> first offset that is not written yet.
    """
    fences = store.fence_offsets(sorted({p for _, p in ends}))
    return all(fences[p][topics[t]] + 1 >= end for (t, p), end in ends.items())


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs, as on a paused machine."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        # It may have been ended meanwhile.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """A process none of whose files may grow."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        # It may have ended meanwhile.
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class Incidents:
    """Strikes a run.

    Args:
        settings: effective settings, with URLs.
        store: the pipeline's state, on a Redis whose machine this is.
        writer: writes the log.
        rng: decides.
        on_apache: whether the broker is an Apache Kafka, which knows transactions and deletes records.
    """

    def __init__(
        self, settings: Settings, store: StateStore, writer: LogWriter, rng: random.Random, *, on_apache: bool
    ) -> None:
        self._settings, self._processes = settings, settings.learner.processes
        self._store = store
        self._client = store.client
        self._writer = writer
        self._rng = rng
        self.num_lost = 0
        """Offsets that were deleted before anybody read them."""
        self._bag: list[str] = []
        self._ways: dict[str, Way] = {
            **{f"redis says {word}": self._refused(hold) for word, hold in self._refusals().items()},
            "redis hangs": self._refused(self._stopped_redis),
            "a second learner": self._second_learner,
            "learner's disk is full": self._full_disk,
            "learner hangs": self._stopped_learner,
        }
        if on_apache:
            self._ways |= {
                "transactions": lambda entries, *_: writer.in_transactions(entries, self._codec()),
                "an open transaction": lambda entries, *_: writer.beside_an_open_transaction(entries),
                "a codec": lambda entries, *_: writer.plain(entries, self._codec()),
                "retention": self._retention,
            }

    def strike(self, entries: Sequence[LogEntry], worker: Role, learner: Role) -> str:
        """Write a slice under some incident; returns which."""
        if not self._bag:
            # Each once, before any comes again.
            self._bag = self._rng.sample(sorted(self._ways), len(self._ways))
        name = self._bag.pop()
        self._ways[name](entries, worker, learner)
        return name

    def _codec(self) -> str:
        return self._rng.choice(CODECS[1:])

    def _some_time(self, lasts: tuple[float, float] = _LASTS_S) -> float:
        return self._rng.uniform(*lasts)

    # A store that says no ---------------------------------------------------------------------------------------

    def _refusals(self) -> dict[str, Callable[[], AbstractContextManager[None]]]:
        return {
            "OOM": lambda: self._configured("maxmemory", "1", "0"),
            "NOREPLICAS": lambda: self._configured("min-replicas-to-write", "1", "0"),
            "READONLY": self._replica,
            "MISCONF": self._unsaved,
            "BUSY": self._busy,
        }

    def _refused(self, hold: Callable[[], AbstractContextManager[None]]) -> Way:
        def strike(entries: Sequence[LogEntry], *_: Role) -> None:
            with hold():
                self._writer.plain(entries)
                time.sleep(self._some_time())

        return strike

    def _setting(self, name: str) -> str:
        return str(self._client.config_get(name)[name])

    @contextmanager
    def _configured(self, name: str, bad: str, good: str) -> Iterator[None]:
        self._client.config_set(name, bad)
        try:
            yield
        finally:
            self._client.config_set(name, good)

    @contextmanager
    def _replica(self) -> Iterator[None]:
        self._client.slaveof("127.0.0.1", 1)
        try:
            yield
        finally:
            self._client.slaveof()

    @contextmanager
    def _unsaved(self) -> Iterator[None]:
        """A snapshot cannot be saved: its name is taken by a folder."""
        folder = Path(str(self._client.config_get("dir")["dir"])) / "taken"
        # The last snapshot that could be saved, after an earlier incident.
        folder.unlink(missing_ok=True)
        folder.mkdir()
        (folder / "file").touch()
        before = {name: self._setting(name) for name in ("dbfilename", "save")}
        self._client.config_set("dbfilename", "taken")
        self._client.config_set("save", "3600 1")
        self._save(well=False)
        try:
            yield
        finally:
            (folder / "file").unlink()
            folder.rmdir()
            self._save(well=True)
            for name, value in before.items():
                self._client.config_set(name, value)

    def _save(self, *, well: bool) -> None:
        self._client.bgsave()
        wanted = "ok" if well else "err"

        def saved() -> bool:
            found = self._client.info("persistence")
            return not found["rdb_bgsave_in_progress"] and found["rdb_last_bgsave_status"] == wanted

        wait_until(saved, f"a snapshot that is {wanted}", stalled_after_s=_STALLED_S)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Redis runs somebody's script."""
        limit = self._setting("lua-time-limit")
        self._client.config_set("lua-time-limit", 50)
        script = subprocess.Popen([sys.executable, "-c", _CALL, self._settings.redis.url], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield
        finally:
            script.kill()
            script.wait()
            self._end_script()
            self._client.config_set("lua-time-limit", limit)

    def _end_script(self) -> None:
        while True:
            try:
                self._client.script_kill()
            except redis.ResponseError as exc:
                if "NOTBUSY" in str(exc):
                    return
            time.sleep(0.02)

    @contextmanager
    def _stopped_redis(self) -> Iterator[None]:
        pid = int(self._client.info("server")["process_id"])
        with stopped(pid):
            yield

    # Two of one thing, a full disk, a paused machine ------------------------------------------------------------

    def _second_learner(self, entries: Sequence[LogEntry], _: Role, learner: Role) -> None:
        """Somebody starts another one on the same run folder."""
        with Role("learner", self._settings, learner.log.parent):
            self._writer.plain(entries)
            time.sleep(self._some_time(_SECOND_LASTS_S))

    def _full_disk(self, entries: Sequence[LogEntry], _: Role, learner: Role) -> None:
        with full_disk(writer_of(learner, self._processes)):
            self._writer.plain(entries)
            time.sleep(self._some_time())

    def _stopped_learner(self, entries: Sequence[LogEntry], _: Role, learner: Role) -> None:
        with stopped(one_of(learner, self._processes, self._rng)):
            self._writer.plain(entries)
            time.sleep(self._some_time())

    # Offsets that are gone --------------------------------------------------------------------------------------

    def _retention(self, entries: Sequence[LogEntry], worker: Role, _: Role) -> None:
        """While no worker runs, records come and go."""
        self.wait_until_applied([worker])
        worker.kill()
        self.num_lost += self._writer.doomed(entries)
        worker.start()
        self._writer.plain(entries)

    def wait_until_applied(self, roles: Sequence[Role]) -> None:
        """Wait until every fence is at its log's end."""
        ends, partitions = self._writer.ends(), range(self._settings.kafka.partitions)
        wait_until(
            lambda: is_applied(self._store, self._settings.topics, ends),
            "the log to be applied",
            roles,
            progress=lambda: str(self._store.fences(partitions)),
            stalled_after_s=_STALLED_S,
        )
