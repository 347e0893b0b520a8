"""`coldstream bench growth`: what a learner's step, its checkpoints and its memory cost as the number of its ids grows.

The log is synthetic: first every id comes once, then users and items come by a long tail (the place of an id is its
number times u^4), each with two attributes and a pair of user and category. Each size has a process of its own. Files
are read back from the page cache, unless that is dropped in between.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from beside.published import published
from rich.console import Console
from rich.table import Table as Printed

from learner.checkpoints.folder import read_latest, write_checkpoint
from learner.checkpoints.manifest import Manifest
from learner.checkpoints.merge import merge
from learner.config import FieldSettings, LearnerSettings
from learner.fast.config import CrossSettings, FastSettings
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import Samples, blocks
from learner.tables.table import Table
from state_store.client import connect
from state_store.config import RedisSettings
from state_store.embedded.redis import EmbeddedRedis
from state_store.resident import resident_bytes
from stream.command.doctor import versions

_NUM_CATEGORIES, _NUM_AGES = 500, 10
_BLOCK = 1024
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_USER, _ITEM, _CATEGORY, _AGE = (np.uint64(n << 40) for n in range(1, 5))
_TAIL = 4
_RECIPE = Recipe(
    fields=(
        FieldSettings("user_id", "user", "id"),
        FieldSettings("item_id", "item", "id"),
        FieldSettings("category", "item", "categorical"),
        FieldSettings("age", "user", "categorical"),
    ),
    fast=FastSettings(factors=16),
    crosses=(CrossSettings(("user_id", "category")),),
    learner=LearnerSettings(embedding_ttl_days=365),
)


def samples_of(users_B: np.ndarray, items_B: np.ndarray, rng: np.random.Generator, first: int) -> Samples:
    """Samples of users and items by number; the first one's is `first`."""
    layout, size = _RECIPE.layout, len(users_B)
    rows = np.zeros(size, layout.dtype)
    rows["kind"] = rows["label"] = rng.random(size) < 0.3
    rows["ts"] = 1_700_000_000_000 + first + np.arange(size)
    rows["negative_rate"] = 1.0
    rows["user_counts"] = rows["item_counts"] = rng.integers(0, 50, (size, 2))
    values = (
        (users_B.astype(np.uint64) + _USER),
        (items_B.astype(np.uint64) + _ITEM),
        (items_B % _NUM_CATEGORIES).astype(np.uint64) + _CATEGORY,
        (users_B % _NUM_AGES).astype(np.uint64) + _AGE,
    )
    for column, value_B in enumerate(values):
        rows["keys"][:, column] = value_B * _FACTOR
    return Samples(layout, rows, np.zeros(0, np.uint64), [None] * (5 * size))


class Log:
    """Samples without end.

    Args:
        num_ids: users and items, half of each.
    """

    def __init__(self, num_ids: int) -> None:
        self._rng = np.random.default_rng(1)
        self._each = num_ids // 2
        self._num = 0

    def _samples(self, users_B: np.ndarray, items_B: np.ndarray) -> Samples:
        self._num += len(users_B)
        return samples_of(users_B, items_B, self._rng, self._num - len(users_B))

    def every_id(self, learner: Learner) -> None:
        """Have a learner learn from each id once."""
        for begin in range(0, self._each, _BLOCK):
            ids_B = np.arange(begin, min(begin + _BLOCK, self._each))
            learner.learn(self._samples(ids_B, ids_B))

    def long_tailed(self, count: int) -> Samples:
        """The next ones."""
        users_B, items_B = ((self._each * self._rng.random(count) ** _TAIL).astype(np.int64) for _ in range(2))
        return self._samples(users_B, items_B)


def learn(learner: Learner, samples: Samples) -> float:
    """Learn from them; returns the seconds that it took."""
    parts = list(blocks(samples, _BLOCK))
    return seconds(lambda: [learner.learn(part) for part in parts])


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def tables_of(learner: Learner) -> list[Table]:
    """With rows that grow."""
    assert learner.fast is not None
    return [learner.table, learner.fast.cross_table]


def checkpoint(learner: Learner, folder: Path, last: Manifest | None) -> tuple[Manifest, dict[str, float]]:
    """Take and write one; what that cost."""
    taken: list[Any] = []
    stop_s = seconds(lambda: taken.extend((learner.evict_stale(), *learner.take_changes(whole=last is None))))
    _, arrays, meta = taken
    touched = sum(len(rows) for name, rows in arrays.items() if name.endswith((".rows", ".gone")))
    behind, made = () if last is None else last.segments, list[Manifest]()
    number = 1 if last is None else last.number + 1
    write_s = seconds(
        lambda: made.append(write_checkpoint(folder, number, arrays, {"learner": meta}, behind=behind, keep=1))
    )
    return made[0], {
        "checkpoint_stop_ms": 1000 * stop_s,
        "checkpoint_bytes": made[0].segments[-1].num_bytes,
        "rows_touched": touched,
        "write_s": write_s,
    }


def measure(num_ids: int, num_samples: int, repeats: int, folder: Path, *, publish: bool) -> dict[str, Any]:
    """What a learner of so many ids costs; `publish`: and what publishing it costs."""
    figures, next_ones, expected_B = grow(num_ids, num_samples, repeats, folder)
    restored, restore_s = restore(folder)
    said_B = restored.learn(next_ones).predictions_B
    assert np.array_equal(said_B, expected_B), "what was restored says other things"
    figures |= {"restore_s": restore_s}
    if publish:
        log = Log(num_ids)
        with EmbeddedRedis() as server, connect(RedisSettings(url=server.url)) as client:
            figures |= published(restored, lambda: learn(restored, log.long_tailed(num_samples)), client)
    return figures


def grow(num_ids: int, num_samples: int, repeats: int, folder: Path) -> tuple[dict[str, Any], Samples, np.ndarray]:
    """Figures of a learner that grows; the samples behind its last checkpoint, and what it predicts of them."""
    learner, log = Learner(_RECIPE), Log(num_ids)
    learner.warm_up()
    before = resident_bytes()
    fill_s = seconds(lambda: log.every_id(learner))
    resident = resident_bytes()
    ids, crosses = (table.num_rows for table in tables_of(learner))
    learn(learner, log.long_tailed(num_samples))
    last, base = checkpoint(learner, folder, None)
    steps, costs = [], []
    for _ in range(repeats):
        steps.append(learn(learner, log.long_tailed(num_samples)))
        last, cost = checkpoint(learner, folder, last)
        costs.append(cost)
    figures = {
        "ids": ids,
        "crosses": crosses,
        "us_per_sample": 1e6 * median(steps) / num_samples,
        "us_per_new_sample": 1e6 * fill_s / (num_ids // 2),
        "bytes_per_id": (resident - before) / ids,
        "rss_bytes": resident,
        **{name: median(cost[name] for cost in costs) for name in costs[0]},
        "base_bytes": base["checkpoint_bytes"],
        "merge_s": seconds(lambda: merge(folder, last.segments, whole=True)),
    }
    next_ones = log.long_tailed(_BLOCK)
    return figures, next_ones, learner.learn(next_ones).predictions_B


def restore(folder: Path) -> tuple[Learner, float]:
    """A learner from the newest checkpoint, and the seconds until it can go on."""
    learner = Learner(_RECIPE)

    def read() -> None:
        found = read_latest(folder)
        assert found is not None
        learner.restore(found.arrays, found.meta["learner"])

    return learner, seconds(read)


def in_own_process(num_ids: int, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` there: memory is a process'."""
    folder = tempfile.mkdtemp(prefix="growth-", dir=options.folder)
    child = [sys.executable, __file__, "--one", folder, "--ids", str(num_ids)]
    child += ["--samples", str(options.samples), "--repeats", str(options.repeats)]
    child += ["--publish"] if options.publish else []
    paths = os.pathsep.join(sys.path)
    try:
        done = subprocess.run(child, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths})
    finally:
        shutil.rmtree(folder)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


def show(results: Sequence[dict[str, Any]]) -> Printed:
    """A table with a column for each size."""
    printed = Printed(title="as ids grow")
    printed.add_column("")
    for result in results:
        printed.add_column(f"{result['ids']:,}", justify="right")
    for name in results[0]:
        printed.add_row(name.replace("_", " "), *(f"{result[name]:,.2f}".removesuffix(".00") for result in results))
    return printed


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench growth", description=__doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000], help="sizes")
    parser.add_argument("--samples", type=int, default=50_000, help="samples between two checkpoints")
    parser.add_argument("--repeats", type=int, default=5, help="checkpoints of each size")
    parser.add_argument(
        "--folder", type=Path, help="where checkpoints are written; else the system's for temporary files"
    )
    parser.add_argument("--publish", action="store_true", help="publish each, too: it needs a Redis as large again")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        found = measure(options.ids[0], options.samples, options.repeats, options.one, publish=options.publish)
        print(msgspec.json.encode(found).decode())
        return
    console, results = Console(stderr=True), []
    for num_ids in options.ids:
        with console.status(f"{num_ids:,} ids"):
            results.append(in_own_process(num_ids, options))
    console.print(show(results))
    report = {
        "results": results,
        "slower_at_last": results[-1]["us_per_sample"] / results[0]["us_per_sample"],
        "samples": options.samples,
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    console.print(f"a sample at {results[-1]['ids']:,} ids / at {results[0]['ids']:,}: {report['slower_at_last']:.2f}")
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
