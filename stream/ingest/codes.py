"""Impressions get the codes of their samples where they are decoded, so that the one call keeps them in histories.

Codes are made by the newest frozen codebooks that the learner has published; until there are any, an impression has
none. Which version that is timing decides, as with embedding norms: each entry says it.
"""

import msgspec

from learner.config import BY_SAMPLE
from learner.named import arrays_in
from learner.samples.columns import of_cores
from learner.sif.frozen import FrozenTokenizer
from state_store.entities.codebooks import CodebookStore
from stream.ingest.rows import Decoded
from stream.settings import Settings

_CODE_BYTES = 8


class Coding:
    """Encodes impressions.

    Args:
        settings: effective settings.
        store: where frozen codebooks come from.
    """

    def __init__(self, settings: Settings, store: CodebookStore) -> None:
        self._fields, self._sif = settings.fields, settings.model.sif
        self._layout = settings.recipe.layout
        self._store = store
        self._tokenizer: FrozenTokenizer | None = None

    def look(self) -> None:
        """Take the newest codebooks, if they are others."""
        current = 0 if self._tokenizer is None else self._tokenizer.version
        if self._store.version() in (0, current):
            return
        blob = self._store.read()
        if blob is not None:
            self._tokenizer = FrozenTokenizer(arrays_in(blob), self._fields, self._sif)

    def coded(self, decoded: Decoded) -> Decoded:
        """The same impressions with their codes, which are the last of what they say."""
        tokenizer = self._tokenizer
        if tokenizer is None or not decoded.cores:
            return decoded
        words = tokenizer.words(of_cores(decoded.cores, self._layout)).astype("<u8").tobytes()
        cores = [core[:-_CODE_BYTES] + words[_CODE_BYTES * n :][:_CODE_BYTES] for n, core in enumerate(decoded.cores)]
        return msgspec.structs.replace(decoded, cores=cores)


def coding_of(settings: Settings, store: CodebookStore) -> Coding | None:
    """What encodes; None where no history keeps codes."""
    if any(history.by == BY_SAMPLE for history in settings.histories):
        return Coding(settings, store)
    return None
