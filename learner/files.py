"""Files that are whole or not there, and what keeps them from being written."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_PART = ".part"
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EFBIG})


def write_whole(
    path: Path,
    parts: Iterable[bytes | memoryview],
    *,
    before_last: Callable[[], None] = lambda: None,
    before_rename: Callable[[], None] = lambda: None,
) -> None:
    """Write a file durably: beside its place, fsync, rename, fsync of the folder, which is made if it is not there.

    Args:
        path: of the file.
        parts: what stands in it, in order.
        before_last: called with all but the last part written.
        before_rename: called with everything written, and nothing in place.

    Raises:
        OSError: it cannot be written; nothing of it stays, and a file that was there is as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "file", [b"a", b"b"])
    ...     [(p.name, p.read_bytes()) for p in (Path(folder) / "new").iterdir()]
    [('file', b'ab')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + _PART)
    *first, last = parts

    def in_turn() -> Iterator[bytes | memoryview]:
        yield from first
        before_last()
        yield last

    write_part(temporary, in_turn(), before_rename)
    put_in_place(temporary, path)


def write_part(
    temporary: Path, parts: Iterable[bytes | memoryview], before_rename: Callable[[], None] = lambda: None
) -> None:
    """Write a file durably that `put_in_place` gives its name.

    Args:
        temporary: of the file, in the folder where it is to be.
        parts: what stands in it, in order; each is made once the one before it is written.
        before_rename: called with everything written.

    Raises:
        OSError: it cannot be written; nothing of it stays.
    """
    try:
        with temporary.open("wb") as f:
            for part in parts:
                f.write(part)
            f.flush()
            os.fsync(f.fileno())
        before_rename()
    except OSError:
        remove([temporary])
        raise


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file, which is durable, its name, durably.

    Raises:
        OSError: that cannot be; nothing of it stays.
    """
    try:
        temporary.rename(path)
    except OSError:
        remove([temporary])
        raise
    try:
        _sync_folder(path.parent)
    except OSError:
        # Whoever is told that it failed writes it again, with more in it: this one must not be taken for that.
        remove([path])
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(paths: Iterable[Path]) -> None:
    """Remove files that are of no use any more, as far as the disk lets us: one that stays does no harm."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            if not passes(exc):
                raise


def forget_parts(folder: Path) -> None:
    """Remove what a writer that was killed has left half-made in a folder."""
    remove(folder.glob(f"*{_PART}"))


def passes(exc: BaseException) -> bool:
    """Whether the error is a disk's that is full, read-only or broken: somebody may mend it, so try again.

    >>> passes(OSError(errno.ENOSPC, "No space left on device")), passes(FileNotFoundError())
    (True, False)
    """
    return isinstance(exc, OSError) and exc.errno in _PASSING


def told(exc: OSError, folder: Path) -> str:
    """The error in words for people.

    >>> told(OSError(errno.ENOSPC, "No space left on device"), Path("runs/a"))
    'run folder runs/a cannot be written (No space left on device): make room there'
    """
    advice = {
        errno.EROFS: "mount it for writing",
        errno.EIO: "see to its disk",
        errno.EACCES: "give this user the right to write there",
        errno.EPERM: "give this user the right to write there",
        errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    }.get(exc.errno or 0, "make room there")
    return f"run folder {folder} cannot be written ({exc.strerror}): {advice}"
