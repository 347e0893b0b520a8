"""Who is the learner of a pipeline: a lease in Redis, which its holder renews, and which runs out behind a dead one."""

import logging
import threading
import uuid
from pathlib import Path

import msgspec
import redis

from learner.files import write_whole
from state_store.client import script
from state_store.errors import lost_ownership
from state_store.keys import Keys
from state_store.refusals import is_weather
from stream.process.folder_lock import this_process

log = logging.getLogger("coldstream.learner")

EXPIRY_MS = 10_000
_RENEW_S = 2.0


class Owner(msgspec.Struct, frozen=True):
    """A learner, as the lease names it."""

    folder: str
    """Id of its run folder."""
    host: str
    pid: int
    life: str = ""
    """Tells it from an earlier process of the same number."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def folder_id(folder: Path) -> str:
    """Id of a run folder, made at its first use."""
    file = folder / "id"
    if not file.exists():
        write_whole(file, [uuid.uuid4().hex.encode()])
    return file.read_text(encoding="utf-8").strip()


def read_owner(client: redis.Redis, prefix: str) -> Owner | None:
    """Who is the learner now; None if there is none."""
    found = client.get(Keys(prefix).learner_owner)
    return msgspec.json.decode(found, type=Owner) if found is not None else None


class Lease:
    """A learner's claim to a pipeline. A thread renews it, however long a step takes.

    Args:
        client: Redis.
        prefix: of its keys.
        folder: id of the run folder.
    """

    def __init__(self, client: redis.Redis, prefix: str, folder: str) -> None:
        self._prefix = prefix
        self._key = Keys(prefix).learner_owner
        self._take = script(client, "lease_take")
        self._release = script(client, "lease_release")
        self._folder = folder
        me = this_process()
        self._value = msgspec.json.encode(Owner(folder, me.host, me.pid, uuid.uuid4().hex))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost = False

    def take(self, *, former_is_dead: bool) -> Owner | None:
        """Take the lease; returns who has it, if it is another learner.

        Args:
            former_is_dead: whether no other process can have this run folder, so that a lease of it is nobody's.
        """
        held = self._try(self._folder if former_is_dead else "")
        if held is None:
            self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
            self._thread.start()
        return held

    def _try(self, dead_folder: str) -> Owner | None:
        held = self._take(keys=[self._key], args=[self._value, dead_folder, EXPIRY_MS])
        return None if held is None else msgspec.json.decode(held, type=Owner)

    def _keep(self) -> None:
        while not self._stop.wait(_RENEW_S):
            try:
                # One that has run out is taken again, unless somebody else was quicker.
                self._lost = self._try("") is not None
            except redis.RedisError as exc:
                if not is_weather(exc):
                    log.exception("the lease cannot be renewed")
            if self._lost:
                return

    def check(self) -> None:
        """Whether this is the learner still.

        Raises:
            LostOwnershipError: another has taken the lease.
        """
        if self._lost:
            raise lost_ownership(self._prefix)

    def release(self) -> None:
        """Give it back, so that another need not wait until it runs out."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._release(keys=[self._key], args=[self._value])
