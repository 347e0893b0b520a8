"""Roles as child processes, and the servers they need."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import msgspec

from state_store.client import connect
from state_store.embedded.child import free_port, spawn
from state_store.embedded.redis import EmbeddedRedis
from state_store.errors import OperatorError
from stream.environment import PREFIX
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics, log_ids
from stream.process.port import need_port
from stream.process.store import open_store
from stream.settings import Settings

_STOP_TIMEOUT_S = 20.0
_TAIL_LINES = 8
_POLL_S = 0.05


class RoleDiedError(OperatorError):
    """A process of ours ended on its own."""


class StalledError(OperatorError):
    """The pipeline made no progress for a while."""


def wait_until(
    done: Callable[[], bool],
    what: str,
    roles: Sequence["Role"] = (),
    *,
    progress: Callable[[], object] = lambda: None,
    stalled_after_s: float = 180.0,
    poll_s: float = _POLL_S,
) -> None:
    """Wait for a condition while roles run.

    Args:
        done: the condition.
        what: what it stands for, for the error.
        roles: must not end meanwhile.
        progress: a value that changes while there is hope; each change starts the clock anew.
        stalled_after_s: longest time without progress; a learner's first start compiles for a minute or more.
        poll_s: time between two looks.

    Raises:
        RoleDiedError: a role ended.
        StalledError: no progress for too long.
    """
    last, since = progress(), time.monotonic()
    while not done():
        for role in roles:
            role.check()
        now = progress()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > stalled_after_s:
            logs = ", ".join(str(role.log) for role in roles)
            raise StalledError(f"waiting for {what}: nothing has moved for {stalled_after_s:.0f} s; logs: {logs}")
        time.sleep(poll_s)


@contextmanager
def servers(settings: Settings, redis_options: tuple[str, ...] = ("--save", "")) -> Iterator[Settings]:
    """Start what no URL is given for; yields settings with both URLs set, and the topics made."""
    embedded_broker = False
    with ExitStack() as stack:
        if not settings.redis.url:
            url = stack.enter_context(EmbeddedRedis(options=redis_options)).url
            settings = msgspec.structs.replace(settings, redis=msgspec.structs.replace(settings.redis, url=url))
        if not settings.kafka.url:
            url = stack.enter_context(EmbeddedBroker()).url
            settings = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=url))
            embedded_broker = True
        topics = ensure_topics(settings.kafka)
        if embedded_broker:
            # A broker in memory starts with an empty log, whatever Redis remembers of an earlier one.
            with connect(settings.redis) as client:
                store = open_store(settings, client)
                store.open_log(log_ids(topics, settings), settings.kafka.partitions)
        yield settings


def with_ports(settings: Settings) -> Settings:
    """The settings with ports that page and scorer can have: one is looked for where it is 0.

    Raises:
        PortTakenError: `monitor.port` or `serving.port` is somebody else's.
    """
    monitor, serving = settings.monitor, settings.serving
    monitor = msgspec.structs.replace(monitor, port=monitor.port or free_port())
    need_port(monitor)
    if serving.enabled:
        serving = msgspec.structs.replace(serving, port=serving.port or free_port())
        need_port(serving)
    return msgspec.structs.replace(settings, monitor=monitor, serving=serving)


class Role:
    """One role in a process of its own, which ends with this process.

    Args:
        name: `worker`, `learner`, `monitor` or `serve`.
        settings: effective settings, with URLs.
        folder: run folder; the role's log is `<name>.log` in it.
    """

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.name = name
        self._settings = settings
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._config: Path | None = None

    @property
    def log(self) -> Path:
        """Where the role's output goes."""
        return self._folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, variables: Mapping[str, str] | None = None) -> "Role":
        """Start the process, with further environment variables if any."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Settings hold secrets: a file that only this user can read, not arguments that every user can list.
        self._forget_config()
        handle, config = tempfile.mkstemp(prefix="coldstream-", suffix=".json")
        with os.fdopen(handle, "wb") as f:
            f.write(msgspec.json.encode(self._settings))
        self._config = Path(config)
        arguments = ["--run", str(self._folder)] if self.name in ("learner", "monitor") else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)} | dict(variables or {})
        with self.log.open("ab") as log:
            self._process = spawn(
                [sys.executable, "-m", "stream.command.cli", self.name, "--config", config, *arguments],
                log,
                environment,
            )
        return self

    def check(self) -> None:
        """Raise if the process has ended.

        Raises:
            RoleDiedError: with the last lines of its log.
        """
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
            raise RoleDiedError(f"the {self.name} ended with status {status}; its log, {self.log}, ends with:\n{tail}")

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status; negative: the signal that ended it; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, as a crash would; no matter if it has ended already."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for a graceful end."""
        self._forget_config()
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _forget_config(self) -> None:
        if self._config is not None:
            self._config.unlink(missing_ok=True)
            self._config = None

    def __enter__(self) -> "Role":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
