"""Impressions get the codes of their samples where they are decoded, so that the one call keeps them in histories.

Codes are made by the newest frozen codebooks that the learner has published; until there are any, an impression has
none. Which version that is timing decides, as with embedding norms: each entry says it.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import redis

from learner.named import arrays_in
from learner.samples.columns import of_cores
from state_store.entities.codebooks import CodebookStore
from stream.ingest.rows import Decoded
from stream.settings import Settings

if TYPE_CHECKING:
    from learner.sif.frozen import FrozenTokenizer

log = logging.getLogger("coldstream.worker")

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
        self._digest = ""
        """Of the codebooks that were looked at last."""

    def look(self) -> None:
        """Take the newest codebooks, if they are others; none of a learner with other settings."""
        digest = self._store.digest() if self._layout.has_codes else ""
        if digest in ("", self._digest):
            return
        blob = self._store.read()
        if blob is not None:
            self._digest = digest
            self._take(arrays_in(blob))

    def _take(self, arrays: Mapping[str, np.ndarray]) -> None:
        # It compiles, which a worker that encodes nothing is spared.
        from learner.sif.frozen import FrozenTokenizer, made_for

        if int(arrays["made_for"][0]) == made_for(self._fields, self._sif):
            self._tokenizer = FrozenTokenizer(arrays, self._fields, self._sif)
            return
        # The learner's own come later: it learns from what this worker hands on.
        self._tokenizer = None
        log.warning(
            "codebooks version %d are of other [[fields]] or model.sif: until the learner has published others, "
            "samples get no codes",
            int(arrays["version"][0]),
        )

    def coded(self, decoded: Decoded) -> Decoded:
        """The same impressions with their codes, which are the last of what they say."""
        tokenizer = self._tokenizer
        if tokenizer is None or not decoded.cores:
            return decoded
        words = tokenizer.words(of_cores(decoded.cores, self._layout)).astype("<u8").tobytes()
        cores = [core[:-_CODE_BYTES] + words[_CODE_BYTES * n :][:_CODE_BYTES] for n, core in enumerate(decoded.cores)]
        return msgspec.structs.replace(decoded, cores=cores)
