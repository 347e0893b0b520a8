"""Vectors of words, by which content is compared that has no word in common.

A sentence encoder says once what it makes of each word by itself (`coldstream words`); learner and scorers look that up
by the keys that samples have instead of words, so none of them runs an encoder. Averages of such vectors keep most of
what an encoder says of short texts (Arora et al., ICLR 2017; Model2Vec, Tulkens and van Dongen 2024, does the same).

Legend: V words, N keys of them in every field, W dimensions.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from xxhash import xxh3_64_intdigest

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings, Kind, is_content, section_of
from learner.content.names import packed, unpacked
from learner.named import below
from learner.samples.keys import value_key

_NAMES, _VECTORS = "words.", "vectors_VW"
_KEPT = 8
"""Files, or other choices of one, of which the vectors stay in memory; learner and scorer have one or two."""


class Words(NamedTuple):
    """Vectors by the key of a word in a field."""

    keys_N: np.ndarray
    """Ascending, uint64."""
    vectors_NW: np.ndarray
    """float32."""
    print: int
    """Of all that; what was made with other words is told by it. 0: there are none."""


NO_WORDS = Words(np.zeros(0, np.uint64), np.zeros((0, 0), np.float32), 0)


def write_words(path: Path, words: Sequence[str], vectors_VW: np.ndarray, encoder: str) -> None:
    """Write a file of words.

    Args:
        path: where.
        words: V different ones.
        vectors_VW: of each, the first dimensions saying most: a reader takes as many as it wants.
        encoder: whose vectors they are.
    """
    names = {_NAMES + name: array for name, array in packed(words).items()}
    path.write_bytes(save(names | {_VECTORS: vectors_VW.astype(np.float16)}, {"encoder": encoder}))


def words_of(settings: ContentStartSettings, fields: Sequence[FieldSettings], kind: Kind) -> Words:
    """The words of the settings' file, in each field that says what an item is, or a user.

    Raises:
        ValueError: the file is not there, no file of words, or has too few dimensions; names it.
    """
    if not settings.words:
        return NO_WORDS
    names = tuple(field.name for field in fields if is_content(field, kind) and field.kind != "numeric")
    path, setting = Path(settings.words), f"{section_of(kind)}.words {settings.words!r}"
    try:
        return _read(path, path.stat().st_mtime_ns, settings.words_width, names)
    except OSError as exc:
        raise ValueError(f"{setting}: {exc.strerror}; `coldstream words {settings.words}` makes it") from exc
    except (SafetensorError, KeyError, UnicodeDecodeError) as exc:
        raise ValueError(f"{setting}: no file of words ({exc}); `coldstream words FILE` makes one") from exc
    except ValueError as exc:
        raise ValueError(f"{setting}: {exc}") from exc


@lru_cache(_KEPT)
def _read(path: Path, changed_ns: int, width: int, fields: tuple[str, ...]) -> Words:
    arrays = load_file(path)
    words, vectors_VW = unpacked(below(_NAMES, arrays)), arrays[_VECTORS]
    if vectors_VW.shape[1] < width:
        raise ValueError(f"has {vectors_VW.shape[1]} dimensions, and words_width is {width}")
    keys_N = np.array([value_key(field, word) for field in fields for word in words], np.uint64)
    keys_N, first_N = np.unique(keys_N, return_index=True)
    vectors_NW = np.ascontiguousarray(vectors_VW[first_N % max(len(words), 1), :width], np.float32)
    return Words(keys_N, vectors_NW, xxh3_64_intdigest(keys_N.tobytes() + vectors_NW.tobytes()) or 1)
