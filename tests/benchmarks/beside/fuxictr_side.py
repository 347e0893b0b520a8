"""FuxiCTR's models on weights and inputs that are given; run in an environment of its own, knows nothing of ours.

    python fuxictr_side.py FOLDER [ZOO]

FOLDER has `cases.json`, per case `NAME.npz` with `ids` (B, F) and a value for every parameter by FuxiCTR's name; what
FuxiCTR says comes as `NAME.out.npy`. ZOO is the folder `model_zoo` of a checkout: the package on the index leaves these
models out and has only the layers that they are made of. Without it, those that are nothing but layers are put together
here.
"""

import importlib.util
import json
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetMix, CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from torch import nn

_NORMS = ("norm_r.", "norm_p.")


class OfLayers(nn.Module):
    """FM, DeepFM, DNN, DCNv2, of the package's layers, each under the name that it has in the zoo."""

    def __init__(self, feature_map, embedding_dim, hidden_units=(), parts=(), **options):
        super().__init__()
        width, self.parts = feature_map.sum_emb_out_dim(), parts
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        if "fm" in parts:
            self.fm = FactorizationMachine(feature_map)
        if "mlp" in parts:
            self.mlp = MLP_Block(width, list(hidden_units), output_dim=1)
        if "crossnet" in parts:
            rank = options["low_rank"]
            layers = options["num_cross_layers"]
            mixed = rank and CrossNetMix(width, layers, low_rank=rank, num_experts=options["num_experts"])
            self.crossnet = mixed or CrossNetV2(width, layers)
            self.stacked = options["model_structure"] == "stacked"
            dnn = MLP_Block(width, list(hidden_units))
            setattr(self, "stacked_dnn" if self.stacked else "parallel_dnn", dnn)
            self.fc = nn.Linear(hidden_units[-1] if self.stacked else width + hidden_units[-1], 1)

    def forward(self, inputs):
        emb = self.embedding_layer(inputs)
        flat, y = emb.flatten(1), 0
        if "fm" in self.parts:
            y = y + self.fm(inputs, emb)
        if "mlp" in self.parts:
            y = y + self.mlp(flat)
        if "crossnet" in self.parts:
            x = self.crossnet(flat)
            y = self.fc(self.stacked_dnn(x) if self.stacked else torch.cat([x, self.parallel_dnn(flat)], dim=-1))
        return {"y_pred": y}


def feature_map_of(num_fields: int, dim: int, vocabulary: int) -> FeatureMap:
    """Fields f0, f1, .. of so many values each."""
    found = FeatureMap("none", ".")
    spec = {"type": "categorical", "source": "", "vocab_size": vocabulary, "padding_idx": None}
    found.features = OrderedDict((f"f{n}", dict(spec)) for n in range(num_fields))
    found.labels, found.num_fields, found.default_emb_dim = ["label"], num_fields, dim
    return found


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model_of(case: dict, zoo: Path | None) -> nn.Module | None:
    feature_map = feature_map_of(case["num_fields"], case["dim"], case["vocabulary"])
    if zoo is None:
        return OfLayers(feature_map, case["dim"], **case["of_layers"]) if case["of_layers"] else None
    path = zoo / case["file"]
    if not path.is_file():
        return None
    needed = {"optimizer": "adam", "loss": "binary_crossentropy", "verbose": 0, "model_root": ".", "metrics": []}
    # A regression's output is the logit.
    return getattr(module_of(path), path.stem)(
        feature_map, embedding_dim=case["dim"], task="regression", **needed, **case["options"]
    )


def main(folder: Path, zoo: Path | None) -> None:
    for case in json.loads((folder / "cases.json").read_text(encoding="utf-8")):
        model = model_of(case, zoo)
        if model is None:
            continue
        given = dict(np.load(folder / f"{case['name']}.npz"))
        ids = torch.from_numpy(given.pop("ids"))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                # Fresh statistics, mean 0 and variance 1: with this it leaves everything as it is.
                module.eps = 0.0
        kept = {key: value for key, value in model.state_dict().items() if key not in given}
        # Of AFN's batch normalisation, and what EulerNet has and does not use unless it is told to.
        left_out = ("log_batch_norm.", "exp_batch_norm.", *(() if case["options"].get("layer_norm") else _NORMS))
        strange = [key for key in kept if not any(part in key for part in left_out)]
        if strange:
            raise SystemExit(f"{case['name']}: no values for {', '.join(strange)}")
        model.load_state_dict({**kept, **{key: torch.from_numpy(value) for key, value in given.items()}})
        with torch.no_grad():
            out = model.eval()({f"f{n}": ids[:, n] for n in range(ids.shape[1])})["y_pred"]
        np.save(folder / f"{case['name']}.out.npy", out.numpy().ravel())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
