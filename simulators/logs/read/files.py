"""Data files found by pattern, opened whatever they are packed by, and cut into blocks of whole records."""

import codecs
import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, cast

from backports import zstd

from simulators.logs.errors import DataError

PACKED = (".gz", ".zst")
_MAX_TRIES = 64


def find_files(folder: Path, patterns: Sequence[str], entry: str) -> list[Path]:
    """The files that match, in the order of their names; each plain or packed.

    Args:
        folder: where they lie.
        patterns: as in a mapping.
        entry: whose patterns these are, for the error.

    Raises:
        DataError: there are none.
    """
    found = {
        path
        for pattern in patterns
        for suffix in ("", *PACKED)
        for path in folder.glob(pattern + suffix)
        if path.is_file()
    }
    # A file that lies there both packed and not is one file.
    plain = [path for path in found if path.suffix not in PACKED or path.with_suffix("") not in found]
    if not plain:
        here = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else []
        raise DataError(
            f"{entry}: no file in {folder} matches {' or '.join(patterns)} (plain, .gz or .zst); "
            + (f"there are {', '.join(here)}" if here else "the folder is empty or not there")
        )
    return sorted(plain, key=lambda path: (path.name, path))


def suffix_of(path: Path) -> str:
    """The suffix that says what is inside.

    >>> suffix_of(Path("log.csv.gz"))
    '.csv'
    """
    return (path.with_suffix("") if path.suffix in PACKED else path).suffix.lower()


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    return cast(IO[bytes], zstd.open(path)) if path.suffix == ".zst" else path.open("rb")


def read_pieces(path: Path, size: int) -> Iterator[bytes]:
    """The unpacked bytes, piece by piece.

    Raises:
        DataError: it cannot be read, or is cut off; names the file.
    """
    try:
        with _open(path) as file:
            while piece := file.read(size):
                yield piece
    except EOFError as exc:
        raise DataError(f"{path} is cut off: it ends in the middle; copy or fetch it anew") from exc
    except (gzip.BadGzipFile, zlib.error, zstd.ZstdError) as exc:
        raise DataError(f"{path} is damaged, or not what its suffix says ({exc}); copy or fetch it anew") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read ({exc.strerror})") from exc


def _utf8_pieces(path: Path, size: int, encoding: str) -> Iterator[bytes]:
    pieces = read_pieces(path, size)
    first = next(pieces, b"")
    if first.startswith(codecs.BOM_UTF8) or codecs.lookup(encoding).name in ("utf-8", "ascii", "utf-8-sig"):
        # A mark of UTF-8 says so itself, whatever the mapping says of such files.
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for piece in chain((first,), pieces):
        yield decoder.decode(piece).encode()


def _whole_records(block: bytes, quote: bytes) -> int:
    """Bytes up to the last line's end that is not inside quotes; 0: there is none."""
    end = block.rfind(b"\n") + 1
    if not quote:
        return end
    at = end
    for _ in range(_MAX_TRIES):
        if not at or block.count(quote, 0, at) % 2 == 0:
            return at
        at = block.rfind(b"\n", 0, block.rfind(quote, 0, at)) + 1
    # A quote that is never closed: its record is found out when it is parsed.
    return end


def read_blocks(path: Path, size: int, encoding: str = "utf-8", quote: str = "") -> Iterator[bytes]:
    """A text file as UTF-8, without byte order mark, in blocks of whole records.

    Args:
        path: the file.
        size: bytes of a block; one with a longer record is longer.
        encoding: of the file.
        quote: character between which a line's end does not end the record; empty: none.

    Raises:
        DataError: it cannot be read, is cut off, or is empty.
    """
    rest = b""
    empty = True
    for piece in _utf8_pieces(path, size, encoding):
        block = rest + piece
        end = _whole_records(block, quote.encode())
        rest = block[end:]
        if end:
            empty = False
            yield block[:end]
    if rest.strip():
        empty = False
        yield rest
    if empty:
        raise DataError(f"{path} is empty; copy or fetch it anew")
