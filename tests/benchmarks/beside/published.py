"""What publishing a learner costs: a full version, the rows that changed, the next full one; a scorer's start."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from learner.config import Values
from learner.learner import Learner
from learner.published.encoding import encode_snapshot, take_changed
from learner.published.messages import cut
from learner.snapshot import ServingModel
from state_store.resident import resident_bytes
from state_store.weights import BlobRef, Manifest, WeightStore

_LOOK_EVERY = 50
"""Slices from one look at memory to the next."""


class _Written:
    """What a `WeightStore` writes: it tells of each chunk."""

    def __init__(self) -> None:
        self.chunks = 0

    def __call__(self, place: str) -> None:
        self.chunks += place == "chunk.written"


class _Peak:
    """The most memory that was in use while a model was loaded."""

    def __init__(self) -> None:
        self.most, self._calls = 0, 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % _LOOK_EVERY == 0:
            self.most = max(self.most, resident_bytes())


def published(
    learner: Learner,
    learn: Callable[[], object],
    client: redis.Redis,
    *,
    values: Values = "float32",
    store: str = "redis",
) -> dict[str, Any]:
    """Seconds, bytes and chunks of publishing a learner twice, and of a scorer that starts.

    Args:
        learner: whose weights.
        learn: has it learn what it usually does from one full version to the next.
        client: an empty Redis.
        values: `publish.values`.
        store: `publish.store`.
    """
    written = _Written()
    weights = WeightStore(client, "bench", store=store, at=written)
    epoch = weights.open_epoch()

    def put(version: int, like: BlobRef | None) -> tuple[BlobRef, float, int]:
        before, began = written.chunks, time.perf_counter()
        ref = weights.put_base(f"{epoch}-{version}", cut(encode_snapshot(learner, None, values)), like)
        weights.publish(Manifest(version=version, epoch=epoch, created_ms=0, base=ref, base_version=version))
        return ref, time.perf_counter() - began, written.chunks - before

    take_changed(learner)
    first, first_s, num_first = put(1, None)
    learn()
    changed, began = take_changed(learner), time.perf_counter()
    delta = weights.put(f"{epoch}-delta", cut(encode_snapshot(learner, changed, values)))
    delta_s = time.perf_counter() - began
    second, second_s, num_second = put(2, first)
    start_s, extra = _start(learner, weights.read(second))
    return {
        "publish_s": first_s,
        "publish_bytes": first.size,
        "publish_chunks": num_first,
        "publish_delta_s": delta_s,
        "publish_delta_bytes": delta.size,
        "publish_again_s": second_s,
        "publish_again_chunks": num_second,
        "scorer_start_s": start_s,
        "scorer_extra_bytes": extra,
    }


def _start(learner: Learner, chunks: Iterable[bytes]) -> tuple[float, int]:
    """Seconds until a new model has it all, and the memory that it took beyond what it keeps."""
    model, peak = ServingModel(learner.recipe), _Peak()
    began = time.perf_counter()
    model.load(chunks, alone=True, pause=peak)
    return time.perf_counter() - began, max(0, peak.most - resident_bytes())
