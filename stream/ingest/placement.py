"""Notices records that lie in another partition than their user's: by another partitioner, or under another key.

A user is counted in one partition, so such a record would be counted beside the user's history.
"""

from stream.partitioning import partition_of


class Placement:
    """Watches the input partitions.

    Args:
        num_partitions: of the input topics.

    >>> placement = Placement(4)
    >>> home = partition_of("u1", 4)
    >>> placement.home_of(home, "u1"), placement.home_of((home + 1) % 4, "u1") == home
    (None, True)
    """

    def __init__(self, num_partitions: int) -> None:
        self._num_partitions = num_partitions

    def home_of(self, partition: int, user_id: str) -> int | None:
        """The partition where a record of this one belongs; None if it lies there."""
        home = partition_of(user_id, self._num_partitions)
        return None if home == partition else home
