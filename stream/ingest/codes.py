"""Impressions get the codes of their samples where they are decoded, so that the one call keeps them in histories.

Codes are made by the newest frozen codebooks that the learner has published; until there are any, an impression has
none. Which version that is timing decides, as with embedding norms: each entry says it.
"""

from typing import TYPE_CHECKING

import msgspec
import redis

from learner.named import arrays_in
from learner.samples.columns import of_cores
from state_store.entities.codebooks import CodebookStore
from stream.ingest.rows import Decoded
from stream.settings import Settings

if TYPE_CHECKING:
    from learner.sif.frozen import FrozenTokenizer

_CODE_BYTES = 8


class Coding:
    """Encodes impressions, where a history keeps codes.

    Args:
        settings: effective settings.
        client: Redis.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._fields, self._sif = settings.fields, settings.model.sif
        self._layout = settings.recipe.layout
        self._store = CodebookStore(client, settings.redis.prefix)
        self._tokenizer: FrozenTokenizer | None = None

    def look(self) -> None:
        """Take the newest codebooks, if they are others.

        Raises:
            ValueError: they were learned with other settings.
        """
        current = 0 if self._tokenizer is None else self._tokenizer.version
        if not self._layout.has_codes or self._store.version() in (0, current):
            return
        # It compiles, which a worker that encodes nothing is spared.
        from learner.sif.frozen import FrozenTokenizer

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
