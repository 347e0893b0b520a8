"""How long what was read is held back for partitions of which there is more than has come.

A broker answers with some of the partitions that it was asked for. What it left out may have been written before what
it brought: handed on at once, feedback would come before the impressions that it is about, and wait in the state.
"""

import time
from collections.abc import Collection

from faust.types import TP

_MOST_S = 1.0


class Patience:
    """Waits for a partition until it brings something, and so long at most: its broker may be away.

    Args:
        most_s: seconds.
    """

    def __init__(self, most_s: float = _MOST_S) -> None:
        self._most_s = most_s
        self._since: dict[TP, float] = {}

    def left_s(self, late: Collection[TP]) -> float:
        """For how long partitions are to be waited for: until the last of those that were late before is given up.

        Args:
            late: all that have not brought what there is of them.
        """
        now = time.monotonic()
        self._since = {tp: self._since.get(tp, now) for tp in late}
        return max([0.0, *(since + self._most_s - now for since in self._since.values())])
