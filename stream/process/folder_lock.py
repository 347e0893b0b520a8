"""A run folder belongs to one process at a time."""

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from learner.files import passes
from state_store.errors import OperatorError

_LOCK = "lock"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class RunFolderError(OperatorError):
    """The run folder cannot be used."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a folder."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    """This one."""
    return Holder(socket.gethostname(), os.getpid())


class FolderLock:
    """A lock on a run folder, which the system takes back from a process that ends, however it ends.

    Args:
        folder: the run folder; it is made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None
        self.is_sure = True
        """Whether nobody else can have the folder; not so on a filesystem without locks."""

    @property
    def is_held(self) -> bool:
        """Whether this process has the folder."""
        return self._handle is not None

    def take(self) -> Holder | None:
        """Take the lock; returns who has it, if it is another process.

        Raises:
            RunFolderError: this is no folder that can be used.
            OSError: the disk is full or broken.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            if passes(exc) and exc.errno not in {errno.EACCES, errno.EPERM}:
                raise
            raise RunFolderError(
                f"--run {self._folder}: cannot be used as a run folder ({exc.strerror}); give another, or mend it"
            ) from exc
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(handle)
            os.close(handle)
            return holder
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                os.close(handle)
                raise
            self.is_sure = False
        self._handle = handle
        # The lock is what counts: on a full disk it has no name.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, msgspec.json.encode(this_process()), 0)
        return None

    def release(self) -> None:
        """Give the folder back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _read(handle: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(handle, 1024, 0), type=Holder)
    except msgspec.DecodeError:
        # It has the lock, and has not written its name yet.
        return Holder("this or another host", 0)
