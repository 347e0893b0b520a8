"""`coldstream bench fast`: the compiled step beside the same in NumPy, and tables beside a dict, in one run.

Samples are like those of MovieLens-1M: 8 fields with some 13 values, two crosses with some 6 pairs, 16 factors. Runs
alternate, so that a machine that slows down slows both; medians are compared.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import msgspec
import numpy as np
from beside.numpy_step import NumpyStep
from rich.console import Console
from rich.table import Table as Printed

from learner.config import FieldSettings
from learner.fast.block import Block, Occurring, Predicted, block_of
from learner.fast.config import CrossSettings, FastRecipe
from learner.fast.inputs.crosses import cross, plan_of
from learner.fast.model import FastPart
from learner.fast.predictor import Found
from learner.fast.warm_up import warm_up
from learner.tables.ids import Ids
from learner.tables.table import Group, Table
from stream.command.doctor import versions

FIELDS = (
    FieldSettings("user_id", "user", "id"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("gender", "user", "categorical"),
    FieldSettings("occupation", "user", "categorical"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("decade", "item", "categorical"),
    FieldSettings("title", "item", "multi"),
    FieldSettings("genres", "item", "multi"),
)
SETTINGS = FastRecipe(
    crosses=(CrossSettings(("user_id", "genres")), CrossSettings(("user_id", "title"))),
    max_rows=1_000_000,
    max_cross_rows=5_000_000,
)
_SIZES = (6_000, 7, 2, 21, 3_700, 10, 4_000, 18)
"""Distinct values per field."""
_NUM_SIGNALS = 6
_MOST_APART = 0.001
"""Logits."""


def make_ids(rng: np.random.Generator, num_samples: int) -> Ids:
    """Values of samples, of which a few are frequent; none is twice in a sample."""
    sizes_BF = np.ones((num_samples, len(FIELDS)), np.int64)
    sizes_BF[:, 6:] = rng.integers(2, 6, (num_samples, 2))
    kinds_N = np.repeat(np.tile(np.arange(len(FIELDS)), num_samples), sizes_BF.reshape(-1)).astype(np.uint8)
    first_BF = (rng.random(sizes_BF.shape) ** 2 * np.array(_SIZES)).astype(np.int64)
    ends_BF = sizes_BF.cumsum()
    place_N = np.arange(len(kinds_N)) - np.repeat(ends_BF - sizes_BF.reshape(-1), sizes_BF.reshape(-1))
    value_N = (np.repeat(first_BF.reshape(-1), sizes_BF.reshape(-1)) + place_N) % np.array(_SIZES)[kinds_N]
    keys_N = (value_N.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + (
        kinds_N.astype(np.uint64) << np.uint64(40)
    )
    weights_N = np.repeat(1 / sizes_BF.reshape(-1), sizes_BF.reshape(-1)).astype(np.float32)
    return Ids(np.concatenate([[0], sizes_BF.sum(1).cumsum()]), keys_N, kinds_N, weights_N)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def step_times(num_samples: int, num_numpy: int, seed: int) -> dict[str, float]:
    """Microseconds per sample: of look-ups, the compiled step, the step in blocks of 64, prediction, and NumPy's."""
    rng = np.random.default_rng(seed)
    ids, ts_B = make_ids(rng, num_samples), np.arange(num_samples)
    part = FastPart(SETTINGS, FIELDS, _NUM_SIGNALS)
    found: list[Found] = []
    times = {"look_up": seconds(lambda: found.append(part.look_up(ids, ts_B, learning=True)))}
    block = block_of(
        *found[0],
        (rng.random(num_samples) < 0.5).astype(np.float32),
        rng.normal(size=(num_samples, _NUM_SIGNALS)).astype(np.float32),
    )
    start = part.state()
    said: list[Predicted] = []
    times["compiled"] = seconds(lambda: said.append(part.learn(block)))
    times["predict"] = seconds(lambda: part.predict(block))
    part.restore(start)
    users_B, every_B = ids.keys_N[ids.offsets_B1[:-1]], np.ones(num_samples, np.bool_)
    rows: list[np.ndarray] = []
    times["look_up_covariances"] = seconds(lambda: rows.append(part.covariances_of(users_B, ts_B, every_B)))
    times["compiled_kalman"] = seconds(lambda: part.learn(block._replace(covariance_rows_B=rows[0])))
    part.restore(start)
    cut = [cut_out(block, begin, min(begin + 64, num_samples)) for begin in range(0, num_samples, 64)]
    times["compiled_64"] = seconds(lambda: [part.learn(some) for some in cut])
    part.restore(start)
    some = cut_out(block, 0, num_numpy)
    numpy_step = NumpyStep(part, SETTINGS, FIELDS)
    told: list[np.ndarray] = []
    in_numpy = seconds(lambda: told.append(numpy_step.learn(some)))
    differs = float(np.abs(told[0] - said[0].logit_B[:num_numpy]).mean())
    assert differs < _MOST_APART, f"NumPy's logits differ by {differs:.4f}: it does not do the same"
    per_sample = {name: 1e6 * taken / num_samples for name, taken in times.items()}
    return per_sample | {"numpy": 1e6 * in_numpy / num_numpy}


def cut_out(block: Block, begin: int, end: int) -> Block:
    """Samples `begin` to `end` of a block."""
    parts = []
    for occurring in (block.values, block.crosses):
        offsets_B1 = occurring.offsets_B1[begin : end + 1]
        inside = slice(offsets_B1[0], offsets_B1[-1])
        parts.append(Occurring(offsets_B1 - offsets_B1[0], *(column[inside] for column in occurring[1:])))
    names = ("weight_B", "shift_B", "turn_B", "belief_rows_B", "covariance_rows_B", "learn_B", "deep_B", "levels_B2")
    others = {name: getattr(block, name)[begin:end] for name in names}
    return block_of(parts[0], parts[1], None, None, block.labels_B[begin:end], block.signals_BS[begin:end], **others)


def table_times(num_ids: int, seed: int) -> dict[str, float]:
    """Nanoseconds per id of a table and of a dict: when it is new, and when it is looked up again in any order."""
    rng = np.random.default_rng(seed)
    keys_N = rng.integers(1, 1 << 63, num_ids).astype(np.uint64)
    again_N = rng.permutation(keys_N)
    table = Table([Group("w", 1), Group("G", 1), Group("v", 16), Group("H", 16)], [1], 2 * num_ids)
    fields_N, ts_N = np.zeros(num_ids, np.uint8), np.arange(num_ids)
    rows: dict[int, int] = {}
    keys, again = keys_N.tolist(), again_N.tolist()
    times = {
        "table_new": seconds(lambda: table.rows(keys_N, fields_N, ts_N, learning=True)),
        "dict_new": seconds(lambda: [rows.setdefault(key, len(rows)) for key in keys]),
        "table_again": seconds(lambda: table.rows(again_N, fields_N, ts_N, learning=True)),
        "table_find": seconds(lambda: table.find(again_N)),
        "dict_again": seconds(lambda: [rows[key] for key in again]),
    }
    return {name: 1e9 * taken / num_ids for name, taken in times.items()}


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench fast", description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000, help="samples of the compiled step")
    parser.add_argument("--numpy-samples", type=int, default=3_000, help="of them for NumPy")
    parser.add_argument("--ids", type=int, default=500_000, help="ids of the tables")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    with console.status("compiling"):
        warm_up_s = warm_up()
    steps, tables = [], []
    for repeat in range(options.repeats):
        with console.status(f"run {repeat + 1} of {options.repeats}"):
            steps.append(step_times(options.samples, options.numpy_samples, repeat))
            tables.append(table_times(options.ids, repeat))
    ids = make_ids(np.random.default_rng(0), 2_000)
    report = {
        "samples": options.samples,
        "values_per_sample": round(len(ids.keys_N) / 2_000, 1),
        "crosses_per_sample": round(len(cross(ids, plan_of(SETTINGS.crosses, FIELDS)).keys_N) / 2_000, 1),
        "us_per_sample": {name: round(median(run[name] for run in steps), 2) for name in steps[0]},
        "numpy_over_compiled": round(median(run["numpy"] / run["compiled"] for run in steps), 1),
        "ids": options.ids,
        "ns_per_id": {name: round(median(run[name] for run in tables), 1) for name in tables[0]},
        "dict_over_table": round(median(run["dict_again"] / run["table_again"] for run in tables), 1),
        "warm_up_s": round(warm_up_s, 2),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    for title, unit in (("a sample", "us_per_sample"), ("an id", "ns_per_id")):
        printed = Printed(title=f"what {title} costs")
        printed.add_column("what")
        printed.add_column(unit.split("_", maxsplit=1)[0], justify="right")
        for name, figure in report[unit].items():
            printed.add_row(name.replace("_", " "), f"{figure:,.2f}")
        console.print(printed)
    console.print(f"NumPy / compiled: {report['numpy_over_compiled']}; dict / table: {report['dict_over_table']}")
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
