"""A learner that publishes every so often, and writes down what each version says of some requests.

What it writes is worked out without anything of the scorer's: samples one by one, the state by the store's own reads, a
model made of the learner's whole state.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from support.serving import CONTEXT, ITEM, Trained, publish_some

from learner.samples.columns import Samples, of_cores
from learner.snapshot import ServingModel, encode_snapshot
from state_store.client import connect
from stream.features import FeatureExtractor
from stream.partitioning import partition_of
from stream.settings import Settings

PER_REQUEST = 5
SHOP = {"num_users": 5000, "num_items": 3000}
_PER_VERSION = 100


class Asked(msgspec.Struct):
    """A request whose answers are checked; its first item is no other's."""

    user: str
    candidates: list[dict[str, object]]
    context: dict[str, str]


def requests(count: int) -> list[Asked]:
    """So many, of users whose state does not say when they came, so that the clock has no part in their scores."""
    return [
        Asked(
            f"checked{r}", [{"item": f"i{r * PER_REQUEST + n}", "features": ITEM} for n in range(PER_REQUEST)], CONTEXT
        )
        for r in range(count)
    ]


def items_of(asked: Asked) -> list[str]:
    """Its items."""
    return [str(candidate["item"]) for candidate in asked.candidates]


def _samples(trained: Trained, asked: Sequence[Asked]) -> Samples:
    settings, extract = trained.settings, FeatureExtractor(trained.settings.fields).extract
    layout, cores, states = settings.recipe.layout, [], []
    values = extract({**CONTEXT, **ITEM})
    for one in asked:
        partition = partition_of(one.user, settings.kafka.partitions)
        user, items = trained.store.read_user(partition, one.user), items_of(one)
        for item_id, item in zip(items, trained.store.read_items(partition, items), strict=True):
            cores.append(layout.pack_core("", one.user, item_id, (1, 0), values))
            states.append((user.counts, item.counts))
    samples = of_cores(cores, layout)
    samples.rows_B["user_counts"], samples.rows_B["item_counts"] = (
        np.array(column) for column in zip(*states, strict=True)
    )
    samples.rows_B["negative_rate"] = 1.0
    return samples


def run(settings: Settings, folder: Path, num_requests: int, interval_s: float) -> None:
    """Publish until killed; `versions.jsonl` has a line per version: its number, and a list of scores per request."""
    client = connect(settings.redis)
    trained = publish_some(settings, client, num_samples=20_000, **SHOP)
    asked = requests(num_requests)
    for number, one in enumerate(asked):
        partition = partition_of(one.user, settings.kafka.partitions)
        client.hset(trained.store.keys.user(partition, one.user), mapping={"impressions": number, "like": number // 3})
    samples, version = _samples(trained, asked), 1
    with (folder / "versions.jsonl").open("wb") as file:
        while True:
            began = time.monotonic()
            model = ServingModel(settings.recipe)
            model.load(encode_snapshot(trained.learner, None))
            said_RC = model.predict(samples).predictions_B.reshape(-1, PER_REQUEST)
            file.write(msgspec.json.encode([version, said_RC.tolist()]) + b"\n")
            file.flush()
            time.sleep(max(0.0, interval_s - (time.monotonic() - began)))
            version += 1
            trained.publish(_PER_VERSION, seed=version, now_ms=time.time_ns() // 1_000_000, **SHOP)


if __name__ == "__main__":
    config, where, number, seconds = sys.argv[1:]
    run(msgspec.json.decode(Path(config).read_bytes(), type=Settings), Path(where), int(number), float(seconds))
