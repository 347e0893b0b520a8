"""Records as aiokafka has decoded them.

It makes another one of each, with its topic, its headers as a tuple and the sizes of its parts, which takes a worker as
long as all of the decoding. Batches need none of that.
"""

from typing import Any

from aiokafka.consumer import fetcher


def _as_decoded(value: bytes | None) -> bytes | None:
    """A consumer whose values are read by this one gets records as they are."""
    return value


class _DecodedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    def __iter__(self) -> Any:
        """Without a step of Python's own for each."""
        return self._records_iterator

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if self._value_deserializer is _as_decoded:
            return record
        return super()._consumer_record(tp, record)


def leave_as_decoded(consumer: Any) -> None:
    """Have a consumer that has not started yet give records of offset, timestamp, its type, key and value.

    aiokafka takes the class of what it makes from its module; those of other consumers stay as they are.
    """
    consumer._value_deserializer = _as_decoded
    fetcher.PartitionRecords = _DecodedRecords
