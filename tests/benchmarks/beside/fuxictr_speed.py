"""Steps of FuxiCTR's plain DCN-V2 beside those of ours with adapter and masks, in turns. Needs FuxiCTR."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import torch
from beside.fuxictr_trained import Given, made
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
    """Samples per second of each, and how much faster than FuxiCTR."""
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
            "FuxiCTR, dcnv2": lambda n: model.train_step(ready[n % len(ready)])
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
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(options.turns + 1):
            for name, step in contestants.items():
                began = time.thread_time()
                for n in range(options.steps):
                    step(turn * options.steps + n)
                # The first turn compiles, and fills tables.
                if turn:
                    seconds[name].append(time.thread_time() - began)
    of = {name: options.steps * _BATCH / median(each) for name, each in seconds.items()}
    first = next(iter(of.values()))
    return [
        {"": name, "samples per CPU second": f"{value:,.0f}", "ratio to FuxiCTR": value / first}
        for name, value in of.items()
    ]


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
