"""`coldstream bench gpu`: samples/s of the deep part's step by size of the micro-batch, alone and fed from an outbox.

The whole of AdaF2M2 on DCN-V2 without a fast part, eight fields and eleven ids a sample, on a table that is filled
before. *fed*: entries as they lie in an outbox are decoded, put together and learned from. *step*: occurrences are at
hand; what is said comes back. *replayed*: the recorded step alone, with its inputs on the device; there is none on a
CPU. Ids come by a long tail. Where there is no GPU, the same is measured on the CPU, and says so.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Printed

from learner.adaf2m2.deep import DeepPart
from learner.adaf2m2.device.choice import chosen_device
from learner.adaf2m2.taken import Occurring
from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.fast.config import FastSettings
from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.learner import Learner
from learner.parts import counts_of
from learner.recipe import Recipe
from learner.samples.columns import Samples, blocks, concatenate, decode
from learner.targets import deep_target, targets_of
from stream.command.doctor import versions

_CATEGORIES = ("genre", "author", "hour", "place", "device")
_NUM_TAGS = 4
_TAIL = 4
_ENTRY = 256
"""Samples of an outbox' entry."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def recipe_of(micro_batch: int, num_ids: int, options: argparse.Namespace) -> Recipe:
    """The model."""
    return Recipe(
        fields=(
            FieldSettings("user_id", "user", "id", state=True),
            FieldSettings("item_id", "item", "id", state=True),
            *(FieldSettings(name, "context", "categorical") for name in _CATEGORIES),
            FieldSettings("tags", "item", "multi"),
        ),
        model=ModelSettings(fast=False, deep="dcnv2", dim=16),
        fast=FastSettings(max_rows=2 * num_ids + 10_000),
        learner=LearnerSettings(
            block=1 << 16,
            micro_batch=micro_batch,
            device=options.device,
            deep_rows=options.rows,
            cuda_graphs=not options.eager,
            num_threads=options.threads,
        ),
    )


class Log:
    """Samples without end, of as many users as items."""

    def __init__(self, recipe: Recipe, num_ids: int) -> None:
        self.recipe, self._each = recipe, num_ids // 2
        self._rng = np.random.default_rng(1)
        self._num = 0

    def take(self, count: int) -> Samples:
        """The next ones."""
        layout, rng = self.recipe.layout, self._rng
        rows = np.zeros(count, layout.dtype)
        rows["kind"] = rows["label"] = rng.random(count) < 0.3
        rows["ts"] = 1_700_000_000_000 + self._num + np.arange(count)
        rows["negative_rate"] = 1.0
        rows["user_counts"] = rows["item_counts"] = rng.integers(0, 50, (count, 2))
        for column in range(2):
            rows["keys"][:, column] = self._key(column, (self._each * rng.random(count) ** _TAIL).astype(np.uint64))
        for column in range(2, 2 + len(_CATEGORIES)):
            rows["keys"][:, column] = self._key(column, rng.integers(0, 100, count).astype(np.uint64))
        rows["sizes"] = _NUM_TAGS
        tags = self._key(7, rng.integers(0, 1000, count * _NUM_TAGS).astype(np.uint64))
        self._num += count
        return Samples(layout, rows, tags, ["", "", "", None, None] * count)

    @staticmethod
    def _key(column: int, numbers: np.ndarray) -> np.ndarray:
        keys: np.ndarray = (numbers + np.uint64((column + 1) << 40)) * _FACTOR
        return keys

    def fill(self, learner: Learner) -> None:
        """Have a row for every user and item."""
        for column in range(2):
            for begin in range(0, self._each, 1 << 20):
                keys = self._key(column, np.arange(begin, min(begin + (1 << 20), self._each), dtype=np.uint64))
                learner.table.rows(
                    keys, np.full(len(keys), column, np.uint8), np.ones(len(keys), np.int64), learning=True
                )


def per_s(call: Callable[[int], object], count: int, repeats: int, device: torch.device) -> float:
    """Samples/s of calls that each take `count` of them: median of three rounds, behind one that is not counted."""
    rates = []
    for _ in range(4):
        began = time.perf_counter()
        for n in range(repeats):
            call(n)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        rates.append(repeats * count / (time.perf_counter() - began))
    return median(rates[1:])


def fed(learner: Learner, log: Log, size: int, repeats: int, device: torch.device) -> float:
    """Samples/s from an outbox' entries on."""
    whole = max(size, _ENTRY)
    entries = [[part.encode() for part in blocks(log.take(whole), _ENTRY)] for _ in range(repeats)]

    def learn(n: int) -> None:
        learner.learn(concatenate([decode(entry, learner.layout) for entry in entries[n]]))

    return per_s(learn, whole, repeats, device)


def steps(learner: Learner, log: Log, size: int, repeats: int, device: torch.device) -> tuple[float, float | None]:
    """Samples/s of the deep part itself; and of what is recorded."""
    deep, given = learner.deep, []
    assert isinstance(deep, DeepPart)
    for _ in range(repeats):
        samples = log.take(size)
        occurrences = occurrences_of(samples, plan_of(learner.layout))
        fields_N, ts_N = occurrences.fields_N, np.repeat(samples.rows_B["ts"], np.diff(occurrences.offsets_B1))
        rows_N = learner.table.rows(occurrences.keys_N, fields_N, ts_N, learning=True)
        norms_B2, all_B = np.ones((size, 2), np.float32), np.ones(size, bool)
        targets, nothing_B = targets_of(samples, "undo", settles=False), np.zeros(size, np.float32)
        told = deep_target(targets, nothing_B, nothing_B, all_B, "undo")
        given.append((Occurring(occurrences, rows_N, norms_B2, counts_of(samples), all_B), told))

    def step(n: int) -> None:
        occurring, told = given[n]
        deep.learn(deep.predict(occurring), told)

    rate, recorded = per_s(step, size, repeats, device), deep.recorded
    if recorded is None or not recorded.is_recorded:
        return rate, None
    return rate, per_s(lambda _: [half() for half in recorded.halves], size, repeats, device)


def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """One size of micro-batch."""
    recipe = recipe_of(size, options.ids, options)
    device, log = chosen_device(options.device, said="--device"), Log(recipe, options.ids)
    learner = Learner(recipe)
    learner.warm_up()
    log.fill(learner)
    repeats = max(4, min(options.steps, options.samples // size))
    rate, replayed = steps(learner, log, size, repeats, device)
    fed_per_s = fed(learner, log, size, max(4, repeats // 2), device)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {
        "micro_batch": size,
        "step_per_s": rate,
        "replayed_per_s": replayed,
        "fed_per_s": fed_per_s,
        "ids": learner.num_rows,
        "device_bytes": memory,
    }


def show(results: list[dict[str, Any]], device: str) -> Printed:
    """A table, a row for each size."""
    printed = Printed(title=f"thousand samples/s on {device}")
    for name in ("micro-batch", "step", "replayed", "fed"):
        printed.add_column(name, justify="right")
    for result in results:
        rates = [result[f"{name}_per_s"] for name in ("step", "replayed", "fed")]
        told = ["-" if rate is None else f"{rate / 1000:,.1f}" for rate in rates]
        printed.add_row(f"{result['micro_batch']:,}", *told)
    return printed


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench gpu", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1024, 4096, 16384], help="of micro-batches")
    parser.add_argument("--ids", type=int, default=1_000_000, help="users and items in the table")
    parser.add_argument("--steps", type=int, default=200, help="of a round, at most")
    parser.add_argument("--samples", type=int, default=200_000, help="of a round, at most")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="as learner.device")
    parser.add_argument("--rows", choices=["auto", "host", "device"], default="auto", help="as learner.deep_rows")
    parser.add_argument("--eager", action="store_true", help="record nothing")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    console, results = Console(stderr=True), []
    device = chosen_device(options.device, said="--device")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the CPU ({os.cpu_count()} cores)"
    if device.type == "cpu" and options.device == "auto":
        console.print("no GPU is at hand: these are the CPU's figures")
    for size in options.sizes:
        with console.status(f"micro-batches of {size:,}"):
            results.append(measure(size, options))
    console.print(show(results, name))
    report = {"results": results, "device": name, "ids": options.ids, "cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
