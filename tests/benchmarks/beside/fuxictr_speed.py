"""FuxiCTR's plain DCN-V2, in its own loop and its steps alone, beside ours with adapter and masks, in turns.

Its own loop has its loader, whose processes read, shuffle and hand over what is learned; only what that takes of the
process that learns is counted as CPU time. Ours gathers, or looks up, what it learns in the step. Needs FuxiCTR.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow
import torch
from beside.fuxictr_trained import Given, made
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.models import BaseModel
from pyarrow import parquet
from rich.console import Console

from learner.config import ModelSettings
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import Samples
from simulators.commands.experiments import opened, opened_ratings
from simulators.experiments.offline.settings import HIDDEN, NUM_CROSS_LAYERS, HyperParameters, RunSettings
from simulators.experiments.offline.training import Training
from simulators.experiments.ratings import PAPER_FIELDS
from simulators.experiments.stream.recorded import obtain
from simulators.replay import ReplaySettings
from stream.settings import load_settings

_BATCH = 256
_DEEP = {"deep": "dcnv2", "hidden": HIDDEN, "num_cross_layers": NUM_CROSS_LAYERS}
_PLAIN, _FULL = {"adapter": False, "num_masks": 0}, {"adapter": True, "num_masks": 1}


def timed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Samples of each per second, and how many times as many as of FuxiCTR in its own loop."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    ratings = opened_ratings(options.data, console)
    with tempfile.TemporaryDirectory() as folder:
        given = Given(ratings, options.dim, folder)
        run = RunSettings("dcnv2", "full", 1, HyperParameters(options.lr, options.dim, 0.0, _BATCH))
        order = np.random.default_rng(1).permutation(len(ratings))
        batches = [order[at : at + _BATCH] for at in range(0, len(order) - _BATCH + 1, _BATCH)]
        model = made("dcnv2", given, options, folder)
        # As its own loader would have them, in memory beforehand.
        ready = [given.batch(batch) for batch in batches[: options.steps * (options.turns + 1)]]
        contestants: dict[str, Callable[[int], object]] = {
            "FuxiCTR, dcnv2, in its own loop": _own_loop(
                made("dcnv2", given, options, folder), given, len(order), folder
            ),
            "FuxiCTR, dcnv2, its steps alone": lambda n: model.train_step(ready[n % len(ready)]),
        }
        for variant in ("base", "full"):
            fit = Training(msgspec.structs.replace(run, variant=variant), ratings, torch.device("cpu")).fit
            contestants[f"ours over epochs, dcnv2, {variant}"] = lambda n, fit=fit: fit.step(batches[n % len(batches)])
        recipe, blocks = _recorded(options, Path(folder), console)
        for name, values in (("base", _PLAIN), ("full", _FULL)):
            learner = _learner(recipe, values, options.dim)
            contestants[f"ours, the stream's learner, dcnv2, {name}"] = lambda n, learner=learner: learner.learn(
                blocks[n % len(blocks)]
            )
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for turn in range(options.turns + 1):
            for name, step in contestants.items():
                began = time.perf_counter(), time.process_time()
                for n in range(options.steps):
                    step(turn * options.steps + n)
                # The first turn compiles, and fills tables.
                if turn:
                    seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    of = {name: options.steps * _BATCH / np.median(each, axis=0) for name, each in seconds.items()}
    own = next(iter(of.values()))
    return [
        {
            "": name,
            "samples per second": f"{values[0]:,.0f}",
            "ratio to the first": float(values[0] / own[0]),
            "samples per CPU second": f"{values[1]:,.0f}",
            "CPU, ratio": float(values[1] / own[1]),
        }
        for name, values in of.items()
    ]


def _own_loop(model: BaseModel, given: Given, num_samples: int, folder: str) -> Callable[[int], object]:
    """What FuxiCTR's `train_epoch` does with a batch of its loader, which reads a file in processes of its own."""
    path = str(Path(folder) / "samples.parquet")
    columns = {name: tensor.numpy() for name, tensor in given.batch(np.arange(num_samples)).items()}
    parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), path)
    loader, _ = RankDataLoader(given.feature_map, "train", path, batch_size=_BATCH, data_format="parquet")
    batches = chain.from_iterable(repeat(loader))
    model.train()

    def step(n: int) -> float:
        loss: float = model.train_step(next(batches)).item()
        return loss

    return step


def _learner(recipe: Recipe, values: dict[str, Any], dim: int) -> Learner:
    model = msgspec.convert({"fast": False, "dim": dim, **_DEEP, **values}, ModelSettings)
    own = msgspec.structs.replace(recipe.learner, micro_batch=_BATCH, block=_BATCH)
    learner = Learner(msgspec.structs.replace(recipe, model=model, learner=own))
    learner.warm_up()
    return learner


def _recorded(options: argparse.Namespace, folder: Path, console: Console) -> tuple[Recipe, list[Samples]]:
    """Recorded samples with a label, in blocks of one step, and what they were recorded for."""
    log = opened("ml-1m", options.data, console)
    overrides = ["join.as_served=false", "join.settle_ms=0"]
    settings = load_settings(environment={}, overrides=overrides, defaults={**log.settings, "crosses": []})
    fields = tuple(field for field in settings.fields if field.name in PAPER_FIELDS)
    settings = msgspec.structs.replace(settings, fields=fields, histories=())
    how = ReplaySettings(num_rows=options.steps * (options.turns + 1) * _BATCH)
    recording = obtain(settings, log, how, folder, lambda what: None)
    return settings.recipe, [block for block in recording.blocks(_BATCH) if len(block) == _BATCH]
