"""What time it is for a request that does not say."""

import time

from state_store.config import JoinSettings
from state_store.weights import Manifest

_REPLAYED_MS = 86_400_000


def event_time_ms(manifest: Manifest, join: JoinSettings) -> int:
    """Event time as of now, ms: the wall clock, or that of a log of the past which is being replayed.

    What a model is told of a user, as how long ago it was last seen, goes by the time of events. They are taken for a
    replay's where those that were learned last were more than a day older, when their weights were published, than
    waiting for labels explains. Then event time is theirs, and has gone on since as the wall clock has.

    Args:
        manifest: of the weights that answer.
        join: how long labels are waited for.
    """
    now_ms = time.time_ns() // 1_000_000
    behind_ms = manifest.created_ms - manifest.learned_ts if manifest.learned_ts else 0
    waited_ms = join.window_ms + max(join.settle_ms, join.attribution_ms)
    return now_ms - behind_ms if behind_ms > waited_ms + _REPLAYED_MS else now_ms
