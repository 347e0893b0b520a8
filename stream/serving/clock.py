"""As of when candidates are scored."""

import time

from state_store.config import JoinSettings
from state_store.weights import Manifest

_REPLAYED_MS = 86_400_000


def asked_ms(ts: int | None, manifest: Manifest | None, join: JoinSettings) -> int:
    """Event time, ms: what a request says, or as of now: the wall clock, or that of a log which is being replayed.

    What a model is told of a user, as how long ago it was last seen, goes by the time of events. They are taken for a
    replay's where those that were learned last were more than a day older, when their weights were published, than
    waiting for labels explains. Then event time is theirs, and has gone on since as the wall clock has.

    Args:
        ts: what the request says, if anything.
        manifest: of the weights that answer.
        join: how long labels are waited for.
    """
    if ts is not None:
        return ts
    now_ms = time.time_ns() // 1_000_000
    if manifest is None or not manifest.learned_ts:
        return now_ms
    behind_ms = manifest.created_ms - manifest.learned_ts
    waited_ms = join.window_ms + max(join.settle_ms, join.attribution_ms)
    return now_ms - behind_ms if behind_ms > waited_ms + _REPLAYED_MS else now_ms
