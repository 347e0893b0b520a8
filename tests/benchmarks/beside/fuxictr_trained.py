"""FuxiCTR's models, made of its layers, in its own training step on our samples. Needs FuxiCTR.

Its own: layers, initial values, loss, clipped gradients, Adam, a rate that falls tenfold where validation does not
rise. Ours: the split, the samples of a step in random order, and AUC.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from rich.console import Console
from torch import nn

from learner.metrics import auc
from simulators.commands.experiments import opened_ratings
from simulators.experiments.offline.results import Results
from simulators.experiments.offline.settings import HIDDEN, NUM_CROSS_LAYERS
from simulators.experiments.ratings import Ratings, Side
from simulators.experiments.split import random_split

_PATIENCE, _EVALUATED = 2, 16_384
_MAX_NORM = 10.0
"""FuxiCTR's own default of `fit`."""
_PARTS = {
    "fm": ("fm",),
    "deepfm": ("fm", "mlp"),
    "dnn": ("mlp",),
    "dcnv2": ("parallel",),
    "dcnv2_stacked": ("stacked",),
}
_ZOO = {"eulernet": ("EulerNet", {"shape": [8], "layer_norm": True})}


class OfLayers(BaseModel):
    """FM, DeepFM, DNN, DCNv2, as the zoo puts the package's layers together."""

    def __init__(self, feature_map: FeatureMap, model: str, dim: int, lr: float, folder: str) -> None:
        super().__init__(feature_map, model_id=model, gpu=-1, verbose=0, model_root=folder, metrics=["AUC"])
        self.parts, width, hidden = _PARTS[model], feature_map.sum_emb_out_dim(), list(HIDDEN)
        self.embedding_layer = FeatureEmbedding(feature_map, dim)
        if "fm" in self.parts:
            self.fm = FactorizationMachine(feature_map)
        if "mlp" in self.parts:
            self.mlp = MLP_Block(input_dim=width, output_dim=1, hidden_units=hidden)
        if self.parts[0] in ("parallel", "stacked"):
            self.cross = CrossNetV2(width, NUM_CROSS_LAYERS)
            self.deep = MLP_Block(input_dim=width, hidden_units=hidden)
            self.fc = nn.Linear(hidden[-1] + (width if "parallel" in self.parts else 0), 1)
        self.compile("adam", "binary_crossentropy", lr)
        self.reset_parameters()
        self._max_gradient_norm = _MAX_NORM

    def forward(self, inputs: Any) -> dict[str, torch.Tensor]:
        """Probabilities."""
        given = self.get_inputs(inputs)
        emb_BFD, y_B1 = self.embedding_layer(given), 0
        flat = emb_BFD.flatten(1)
        if "fm" in self.parts:
            y_B1 = y_B1 + self.fm(given, emb_BFD)
        if "mlp" in self.parts:
            y_B1 = y_B1 + self.mlp(flat)
        if "parallel" in self.parts:
            y_B1 = self.fc(torch.cat([self.cross(flat), self.deep(flat)], dim=-1))
        if "stacked" in self.parts:
            y_B1 = self.fc(self.deep(self.cross(flat)))
        return {"y_pred": self.output_activation(y_B1)}


class Given:
    """Ratings as FuxiCTR's feature map and batches.

    Args:
        ratings: the samples.
        dim: length of embeddings.
        folder: that FuxiCTR may write to.
    """

    def __init__(self, ratings: Ratings, dim: int, folder: str) -> None:
        self._labels = torch.from_numpy(ratings.labels_N)
        self._columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.feature_map = FeatureMap("ml-1m", folder)
        self.feature_map.labels, self.feature_map.default_emb_dim = ["y"], dim
        for side, entities_N in ((ratings.users, ratings.users_N), (ratings.items, ratings.items_N)):
            for name, (values, size) in _columns(side).items():
                self._columns[name] = values, entities_N
                spec: dict[str, Any] = {"type": "categorical", "source": "", "vocab_size": size, "padding_idx": 0}
                if values.ndim > 1:
                    pooled = {"feature_encoder": "layers.MaskedAveragePooling()", "max_len": values.shape[1]}
                    spec |= {"type": "sequence", **pooled}
                self.feature_map.features[name] = spec
        self.feature_map.num_fields = self.feature_map.get_num_fields()

    def batch(self, samples_B: np.ndarray) -> dict[str, torch.Tensor]:
        """Samples by their numbers."""
        found = {
            name: torch.from_numpy(values[entities_N[samples_B]])
            for name, (values, entities_N) in self._columns.items()
        }
        return {**found, "y": self._labels[samples_B]}


def _columns(side: Side) -> dict[str, tuple[np.ndarray, int]]:
    """Field -> numbers of its values by entity, from 1 on, and how many there are with 0, which is none."""
    num_fields, found = len(side.fields_F), {}
    for f, field in enumerate(side.fields_F):
        begins, ends = (
            offsets.reshape(-1, num_fields)[:, f] for offsets in (side.offsets_EF[:-1], side.offsets_EF[1:])
        )
        rows = np.unique(np.concatenate([side.rows_V[a:b] for a, b in zip(begins, ends, strict=True)]))
        values = np.zeros((len(begins), max(1, int((ends - begins).max()))), np.int64)
        for e, (a, b) in enumerate(zip(begins, ends, strict=True)):
            values[e, : b - a] = 1 + np.searchsorted(rows, side.rows_V[a:b])
        found[field.name] = (values if field.kind == "multi" else values[:, 0], len(rows) + 1)
    return found


def made(model: str, given: Given, options: argparse.Namespace, folder: str) -> BaseModel:
    """A model of FuxiCTR.

    Raises:
        SystemExit: it is only in the zoo, and that is not there.
    """
    if model in _PARTS:
        return OfLayers(given.feature_map, model, options.dim, options.lr, folder)
    if model not in _ZOO or options.zoo is None:
        raise SystemExit(f"--models {model}: there are {', '.join(_PARTS)}; with --zoo also {', '.join(_ZOO)}")
    name, values = _ZOO[model]
    path = next(options.zoo.rglob(f"{name}.py"), None)
    if path is None:
        raise SystemExit(f"--zoo {options.zoo}: there is no {name}.py; give the folder model_zoo of a whole checkout")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    common = {"gpu": -1, "verbose": 0, "model_root": folder, "metrics": ["AUC"], "optimizer": "adam"}
    fits = {"learning_rate": options.lr, "embedding_dim": options.dim, "loss": "binary_crossentropy"}
    found: BaseModel = getattr(module, name)(given.feature_map, model_id=model, **common, **fits, **values)
    found._max_gradient_norm = _MAX_NORM
    return found


def predict(model: BaseModel, given: Given, samples_N: np.ndarray) -> np.ndarray:
    """Probabilities."""
    model.eval()
    with torch.inference_mode():
        parts = [samples_N[at : at + _EVALUATED] for at in range(0, len(samples_N), _EVALUATED)]
        found: np.ndarray = np.concatenate(
            [model.forward(given.batch(part))["y_pred"].numpy().ravel() for part in parts]
        )
    model.train()
    return found


def trained(options: argparse.Namespace, console: Console) -> Iterator[dict[str, Any]]:
    """Each model at each seed: AUC at the best epoch, beside ours if there is one."""
    torch.set_num_threads(1)
    ratings = opened_ratings(options.data, console)
    with tempfile.TemporaryDirectory() as folder:
        given = Given(ratings, options.dim, folder)
        for name in options.models:
            for seed in options.seeds:
                torch.manual_seed(seed)
                yield _fit(name, made(name, given, options, folder), given, ratings, seed, options)


def _fit(
    name: str, model: BaseModel, given: Given, ratings: Ratings, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    split, rng = random_split(len(ratings), seed, share=options.share), np.random.default_rng(seed + 2)
    began, best, epochs = time.perf_counter(), 0, []
    for number in range(options.epochs):
        order = rng.permutation(split.train_N)
        for at in range(0, len(order), options.batch):
            model.train_step(given.batch(order[at : at + options.batch]))
        aucs = [auc(ratings.labels_N[part], predict(model, given, part)) for part in (split.valid_N, split.test_N)]
        epochs.append(tuple(round(each, 5) for each in aucs))
        if number and epochs[number][0] <= epochs[best][0]:
            model.lr_decay()
            if number - best >= _PATIENCE:
                break
        else:
            best = number
    valid, test = epochs[best]
    row = {"model": name, "seed": seed, "validation": valid, "test": test, "best epoch": best + 1}
    row |= {"seconds": round(time.perf_counter() - began), "epochs": epochs}
    return row | _ours(name, seed, test, options.ours)


def _ours(model: str, seed: int, test: float, folder: Path | None) -> dict[str, Any]:
    """Our base model's best run by validation at this seed, of those that are in a folder."""
    if folder is None:
        return {}
    results = Results(folder)
    paths = folder.glob(f"{model}-base-seed{seed}-*.json")
    runs = [found for path in paths if (found := results._kept.find(path.stem)) is not None]
    if not runs:
        return {"ours, validation": "-", "ours, test": "-", "ours less": "-"}
    best = max(runs, key=lambda run: run.at_best.valid_auc).at_best
    return {
        "ours, validation": best.valid_auc,
        "ours, test": best.test_auc,
        "ours less": f"{best.test_auc - test:+.4f}",
    }
