"""Taking over the partitions that a worker is given by its group."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from faust.types import TP

from stream.ingest.consumer.takeover import IsOver
from stream.ingest.ending import StoppingError
from stream.ingest.worker import Worker

log = logging.getLogger("coldstream.worker")
T = TypeVar("T")


def start_offsets(worker: Worker, earliest: Mapping[TP, int], is_over: IsOver) -> Mapping[TP, int]:
    """Take partitions over, and start behind their fences; none once they are others'. Blocks.

    Args:
        worker: whose they are.
        earliest: topic partitions, and the earliest offset that the broker still has of each.
        is_over: whether they are to be given back.

    Returns:
        First offset to read of each; empty if they are given back before, or the worker stops.
    """
    topics = worker.settings.topics
    partitions = sorted({tp.partition for tp in earliest if tp.topic in topics})

    def unless_over(call: Callable[..., T], *args: Any) -> T:
        if is_over():
            raise StoppingError(f"partitions {partitions} are to be given back before they are taken over")
        return call(*args)

    for revoked in set(worker.ingest.epochs) - set(partitions):
        worker.ingest.release(revoked)
    try:
        if partitions and partitions[-1] >= worker.settings.kafka.partitions:
            worker.check_log()
        worker.retry(unless_over, worker.coding.look)
        fences = {}
        for partition in partitions:
            begins = {topic: earliest[tp] for topic in topics if (tp := TP(topic, partition)) in earliest}
            fences[partition] = worker.retry(unless_over, worker.ingest.assign, partition, begins)
    except StoppingError:
        return {}
    log.info("assigned partitions %s", partitions)
    return {tp: fences[tp.partition][tp.topic] + 1 for tp in earliest if tp.topic in topics}
