"""Domains: what users took, in the order of time, and what is said of each item."""

import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from simulators.logs.errors import DataError
from simulators.logs.movielens import contents, lies_in

_WORD = re.compile(r"[a-z0-9]+")
MOVIELENS = "ml-1m"
_FEWEST = 3
"""Items of a sequence: one to learn from, one to validate, one to test."""
_WORDS_OF_DESCRIPTION = 60


class Domain(NamedTuple):
    """One domain; its J items have numbers 1 .. J."""

    name: str
    sequences: list[np.ndarray]
    """One per user, int64."""
    words: list[list[str]]
    """Of each item, from 1 on."""

    @property
    def num_items(self) -> int:
        """J."""
        return len(self.words)


def read_domain(name: str, folder: Path, num_users: int, seed: int) -> Domain:
    """One of `DOMAINS`; users with fewer than three items are left out, and items that nobody has.

    Args:
        name: of the domain.
        folder: with its files, or with a folder `amazon` or `ml-1m` that has them; MovieLens-1M is also found where
            `coldstream data` puts it.
        num_users: at most; others are drawn away.
        seed: of the draw.

    Raises:
        DataError: its files are not there, or not what they should be.
    """
    try:
        sequences, words = DOMAINS[name](_within(folder, "ml-1m" if name == MOVIELENS else "amazon"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise DataError(f"{name}: {exc.filename} is not there: give the folder with its files with --data") from exc
    except (msgspec.MsgspecError, gzip.BadGzipFile, EOFError, ValueError, KeyError) as exc:
        raise DataError(f"{name}: what lies in {folder} is not what was expected: {exc!r}") from exc
    sequences = [items for items in sequences if len(items) >= _FEWEST]
    if 0 < num_users < len(sequences):
        chosen = np.sort(np.random.default_rng(seed).choice(len(sequences), num_users, replace=False))
        sequences = [sequences[n] for n in chosen]
    used = np.unique(np.concatenate(sequences))
    missing = [number for number in used.tolist() if number not in words]
    if missing:
        raise DataError(f"{name}: nothing is said of {len(missing)} items, item {missing[0]} among them")
    numbered = [np.searchsorted(used, items) + 1 for items in sequences]
    return Domain(name, numbered, [words[number] for number in used.tolist()])


def _within(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class _Sequence(msgspec.Struct, frozen=True):
    items: list[int]


class _Said(msgspec.Struct, frozen=True):
    title: str = ""
    description: str = ""
    brand: str = ""
    categories: str = ""


Read = tuple[list[np.ndarray], Mapping[int, list[str]]]


def _amazon(category: str) -> Callable[[Path], Read]:
    """Items as JSON by number, sequences as lines of JSON."""

    def read(folder: Path) -> Read:
        decode = msgspec.json.Decoder(_Sequence).decode
        sequences = [np.array(decode(line).items) for line in _lines(folder / f"{category}.seq.jsonl.gz")]
        with gzip.open(folder / f"{category}.item.json.gz") as file:
            said = msgspec.json.decode(file.read(), type=dict[int, _Said], strict=False)
        return sequences, {number: _said(each) for number, each in said.items()}

    return read


def _said(item: _Said) -> list[str]:
    short = " ".join((item.title, item.brand, item.categories))
    return _words(short) + _words(item.description)[:_WORDS_OF_DESCRIPTION]


def _video_games(folder: Path) -> Read:
    """RecBole's atomic files: of each user the items so far, and the next one."""
    rows = (line.rstrip("\n").split("\t") for line in _lines(folder / "Video_Games.test.inter.gz"))
    next(rows)
    sequences = [np.array([*map(int, so_far.split()), int(last)]) for _, so_far, last in rows]
    titles = (line.rstrip("\n").split("\t", 1) for line in _lines(folder / "Video_Games.item.gz"))
    next(titles)
    return sequences, {int(number): _words(title) for number, title in titles}


def _movielens(folder: Path) -> Read:
    """Ratings by user in the order of time; title and genres of a film."""
    files = contents(folder if lies_in(folder) else None)
    ratings = np.array(files["ratings"].replace(b"::", b" ").split(), np.int64).reshape(-1, 4)
    ratings = ratings[np.lexsort((ratings[:, 3], ratings[:, 0]))]
    starts = np.flatnonzero(np.diff(ratings[:, 0])) + 1
    films = (line.split("::") for line in files["movies"].decode("latin-1").splitlines())
    words = {int(number): _words(f"{title} {genres}") for number, title, genres in films}
    return np.split(ratings[:, 1], starts), words


DOMAINS: Mapping[str, Callable[[Path], Read]] = {
    "industrial": _amazon("Industrial_and_Scientific"),
    "office": _amazon("Office_Products"),
    "games": _video_games,
    MOVIELENS: _movielens,
}


def union(domains: Sequence[Domain]) -> Domain:
    """Several as one, whose items are those of the first, then those of the second, ...; nobody is in two."""
    sequences: list[np.ndarray] = []
    words: list[list[str]] = []
    for domain in domains:
        sequences += [items + len(words) for items in domain.sequences]
        words += domain.words
    return Domain(" + ".join(domain.name for domain in domains), sequences, words)
