"""Embedding norms, in the form in which `lua/write_norms` takes them."""

from collections.abc import Mapping

import msgspec

_PER_CALL = 1000
"""Ids of one call, so that nobody waits long for Redis."""


def norm_rows(norms: Mapping[str, float]) -> list[bytes]:
    """Id, norm, id, norm, ..., in calls."""
    rows = list(norms.items())
    starts = range(0, len(rows), _PER_CALL)
    return [msgspec.msgpack.encode([one for row in rows[at : at + _PER_CALL] for one in row]) for at in starts]
