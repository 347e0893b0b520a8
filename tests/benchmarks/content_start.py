"""`coldstream bench content-start`: what a new item costs, and a look at the pool, by the number of items in it.

Items have a title of three words of 5,000, some of them far more common than others, one of 80 years and two of 18
genres. Methods alternate; medians are shown. By groups: the pool is not searched whole (`content_start.exact_items`);
*found* is the share of the neighbours that is found all the same.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table as Printed

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings
from learner.fast.config import FastRecipe
from learner.fast.model import FastPart
from learner.fast.warm_up import warm_up
from learner.tables.ids import Ids
from stream.command.doctor import versions

FIELDS = (
    FieldSettings("user_id", "user", "id"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("title", "item", "multi"),
    FieldSettings("year", "item", "categorical"),
    FieldSettings("genres", "item", "multi"),
)
BY_GROUPS = ", by groups"
METHODS = "category", "nearest", f"nearest{BY_GROUPS}", "learned", f"learned{BY_GROUPS}"
_USER, _ITEM, _TITLE, _YEAR, _GENRES = (np.uint64(n << 40) for n in range(1, 6))
_KINDS = np.array([0, 1, 2, 2, 2, 3, 4, 4], np.uint8)
_WEIGHTS = np.array([1, 1, 1 / 3, 1 / 3, 1 / 3, 1, 0.5, 0.5], np.float32)


def make_ids(rng: np.random.Generator, first: int, count: int) -> Ids:
    """One sample of each of so many items."""
    columns = [
        _USER + rng.integers(1, 1000, count).astype(np.uint64),
        _ITEM + np.arange(first, first + count).astype(np.uint64),
        *(_TITLE + (5000 * rng.random(count) ** 3).astype(np.uint64) for _ in range(3)),
        _YEAR + rng.integers(80, size=count).astype(np.uint64),
        *(_GENRES + rng.integers(18, size=count).astype(np.uint64) for _ in range(2)),
    ]
    keys_N = np.stack(columns, axis=1).ravel()
    offsets_B1 = np.arange(0, len(keys_N) + 1, len(_KINDS))
    return Ids(offsets_B1, keys_N, np.tile(_KINDS, count), np.tile(_WEIGHTS, count))


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _starts(method: str, max_items: int) -> ContentStartSettings:
    name, by_groups, _ = method.partition(BY_GROUPS)
    exact = 1 if by_groups else 1_000_000
    given = {"method": name, "category": "genres", "max_items": max_items, "exact_items": exact}
    return msgspec.convert(given, ContentStartSettings)


def share_found(method: str, num_items: int, num_new: int, seed: int) -> float:
    """Share of new items' neighbours that are found, beside comparing all."""
    if BY_GROUPS not in method:
        return 1.0
    rng = np.random.default_rng(seed)
    first, new = make_ids(rng, 1, num_items), make_ids(rng, 1 + num_items, num_new)
    exact, by_groups = (_learned(_starts(name, num_items), first) for name in (method.removesuffix(BY_GROUPS), method))
    for part in (exact, by_groups):
        part.look(0, ["item"])
    shares = []
    for place in np.flatnonzero(new.kinds_N == 1).tolist():
        wanted, had = (part.starts[0].made_for(new, place) for part in (exact, by_groups))
        if wanted is not None and had is not None and len(wanted.nearest_K):
            shares.append(len(np.intersect1d(wanted.nearest_K, had.nearest_K)) / len(wanted.nearest_K))
    return float(np.mean(shares))


def _learned(starts: ContentStartSettings, first: Ids) -> FastPart:
    """All of the first are known, and have learned enough for the pool, which is not looked at yet."""
    part = FastPart(FastRecipe(content_start=starts, max_rows=2_000_000), FIELDS, 6)
    count = len(first.offsets_B1) - 1
    part.look_up(first, np.arange(count), learning=True, names={"item": ["i"] * count})
    part.table.values["G"][: part.table.end] = starts.evidence
    return part


def costs(method: str, num_items: int, num_new: int, seed: int) -> dict[str, float]:
    """Microseconds of a new item, besides those that it costs without starts, and milliseconds of a look."""
    rng = np.random.default_rng(seed)
    starts = _starts(method, num_items + num_new)
    without = FastPart(FastRecipe(max_rows=2_000_000), FIELDS, 6)
    first, new = make_ids(rng, 1, num_items), make_ids(rng, 1 + num_items, num_new)
    with_starts = _learned(starts, first)
    without.look_up(first, np.arange(num_items), learning=True)
    look = seconds(lambda: with_starts.look(0, ["item"]))
    ts_B = np.arange(num_new)
    ours = seconds(lambda: with_starts.look_up(new, ts_B, learning=True, names={"item": ["i"] * num_new}))
    plain = seconds(lambda: without.look_up(new, ts_B, learning=True))
    return {"us_per_new_item": 1e6 * (ours - plain) / num_new, "ms_per_look": 1e3 * look}


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench content-start", description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 50_000], help="in the pool")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--new", type=int, default=500, help="new items")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    with console.status("compiling"):
        warm_up()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for repeat in range(options.repeats):
        for num_items in options.items:
            for method in options.methods:
                with console.status(f"run {repeat + 1} of {options.repeats}: {method}, {num_items:,} items"):
                    found.setdefault((method, num_items), []).append(costs(method, num_items, options.new, repeat))
    printed = Printed(title="what a new item costs")
    for column in ("method", "items in the pool", "µs per new item", "ms per look", "found"):
        printed.add_column(column, justify="right" if column != "method" else "left")
    rows = []
    for (method, num_items), runs in found.items():
        us, ms = (round(median(run[name] for run in runs), 1) for name in ("us_per_new_item", "ms_per_look"))
        with console.status(f"what {method} finds among {num_items:,}"):
            share = round(share_found(method, num_items, options.new, 0), 3)
        row = {"method": method, "items": num_items, "us_per_new_item": us, "ms_per_look": ms, "found": share}
        rows.append(row)
        printed.add_row(method, f"{num_items:,}", f"{us:,}", f"{ms:,}", f"{share:.1%}")
    console.print(printed)
    if options.json:
        print(msgspec.json.encode({"costs": rows, "cores": os.cpu_count(), "versions": versions()}).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
