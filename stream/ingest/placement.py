"""Notices records that lie in another partition than their user's: by another partitioner, or under another key.

A user is counted in one partition, so such a record is counted beside the user's history. Every record of a small batch
is looked at, of a large one every sixteenth; from the first one found on, every record for a while.
"""

from stream.partitioning import partition_of

_LOOKED_AT = 16
"""Records of a batch that are looked at as long as none was misplaced."""
_WATCHED_FOR = 100_000
"""Records that are all looked at after a misplaced one."""


class Placement:
    """Watches the input partitions.

    Args:
        num_partitions: of the input topics.

    >>> placement = Placement(4)
    >>> home = partition_of("u1", 4)
    >>> placement.begin(home, 1), placement.misplaced_from(home, 0, "u1")
    (None, None)
    >>> placement.begin((home + 1) % 4, 1), placement.misplaced_from((home + 1) % 4, 0, "u1") == home
    (None, True)
    """

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = num_partitions
        self._watching: dict[int, int] = {}
        self._step = 1

    def begin(self, partition: int, num_records: int) -> None:
        """A batch of a partition comes."""
        watching = self._watching.get(partition, 0)
        self._step = 1 if watching else max(1, num_records // _LOOKED_AT)
        if watching:
            self._watching[partition] = max(0, watching - num_records)

    def misplaced_from(self, partition: int, n: int, user_id: str) -> int | None:
        """The partition where the n-th record of the batch belongs; None if it lies there, or is not looked at."""
        if n % self._step:
            return None
        home = partition_of(user_id, self._num_partitions)
        if home == partition:
            return None
        self._watching[partition] = _WATCHED_FOR
        self._step = 1
        return home
