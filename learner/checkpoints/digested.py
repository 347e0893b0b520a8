"""Files that begin with the SHA-256 of the rest."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from learner.checkpoints.segment import DamagedError
from learner.files import write_whole

_DIGEST_SIZE = 32


def write_digested(path: Path, body: bytes, before_rename: Callable[[], None] = lambda: None) -> None:
    """Write one durably.

    Raises:
        OSError: it cannot be written; one that was there is as it was.
    """
    write_whole(path, (sha256(body).digest(), body), before_rename=before_rename)


def read_digested(path: Path) -> bytes:
    """The rest.

    Raises:
        DamagedError: it is not what was written.
    """
    data = path.read_bytes()
    body = data[_DIGEST_SIZE:]
    if sha256(body).digest() != data[:_DIGEST_SIZE]:
        raise DamagedError(f"{path} has other bytes than were written")
    return body
