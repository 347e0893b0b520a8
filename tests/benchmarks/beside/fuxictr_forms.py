"""Our interaction models, and the same weights under the names and in the shapes that FuxiCTR has them in."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import torch

from learner.config import ModelSettings

Weights = Mapping[str, np.ndarray]
HIDDEN = [12, 7]
TABLES = "embedding_layer"
"""FuxiCTR's name of the embeddings."""


class Form(msgspec.Struct, frozen=True):
    """A form of a model in both."""

    name: str
    model: dict[str, Any]
    """Ours, as settings."""
    file: str
    """FuxiCTR's, in its `model_zoo`."""
    options: dict[str, Any]
    to_fuxictr: Callable[[Weights], dict[str, np.ndarray]]
    of_layers: dict[str, Any] | None = None
    """How the package's layers make it up; None: not at all."""
    first_order: bool = False
    tables: tuple[str, ...] = (TABLES,)
    note: str = ""


def tables(prefix: str, table_FVD: np.ndarray) -> dict[str, np.ndarray]:
    """Embedding tables, one per field."""
    at = f"{prefix}.embedding_layer.embedding_layers"
    return {f"{at}.f{n}.weight": table for n, table in enumerate(table_FVD)}


def _renamed(w: Weights, ours: str, theirs: str) -> dict[str, np.ndarray]:
    return {theirs + key[len(ours) :]: value for key, value in w.items() if key.startswith(ours)}


def _fm(w: Weights) -> dict[str, np.ndarray]:
    return {"fm.lr_layer.bias": w["bias"].reshape(1)}


def _deepfm(w: Weights) -> dict[str, np.ndarray]:
    return {"fm.lr_layer.bias": np.zeros(1, np.float32), **_renamed(w, "deep.", "mlp.mlp.")}


def _parallel(w: Weights) -> dict[str, np.ndarray]:
    return _crosses(w) | _renamed(w, "deep.", "parallel_dnn.mlp.") | _renamed(w, "head.", "fc.")


def _stacked(w: Weights) -> dict[str, np.ndarray]:
    last = f"deep.{2 * len(HIDDEN)}."
    hidden = {key: value for key, value in w.items() if not key.startswith(last)}
    return _crosses(w) | _renamed(hidden, "deep.", "stacked_dnn.mlp.") | _renamed(w, last, "fc.")


def _crosses(w: Weights) -> dict[str, np.ndarray]:
    if "cross.0.weight" in w:
        return _renamed(w, "cross.", "crossnet.cross_layers.")
    # One layer: its gates are those of all layers there, and of each layer in the paper and here.
    return {
        "crossnet.U_list.0": w["cross.0.up_KRW"].transpose(0, 2, 1),
        "crossnet.V_list.0": w["cross.0.down_KWR"],
        "crossnet.C_list.0": w["cross.0.middle_KRR"].transpose(0, 2, 1),
        "crossnet.bias.0": w["cross.0.bias_W"][:, None],
        **{f"crossnet.gating.{k}.weight": row[None] for k, row in enumerate(w["cross.0.gate.weight"])},
    }


def _afn(w: Weights) -> dict[str, np.ndarray]:
    found = {"coefficient_W.weight": w["logarithmic.neurons.weight"], **_renamed(w, "deep.", "dense_layer.mlp.")}
    return found | _renamed(w, "dnn.", "dnn.mlp.") | _renamed(w, "weigh.", "fc.")


def _eulernet(w: Weights) -> dict[str, np.ndarray]:
    found, n = {"mu": w["modulus_F1"][None], **_renamed(w, "head.", "reg.")}, 0
    while f"layers.{n}.orders_IO" in w:
        ours, theirs = f"layers.{n}.", f"Euler_interaction_layers.{n}."
        found |= {
            f"{theirs}inter_orders": w[f"{ours}orders_IO"],
            f"{theirs}bias_lam": w[f"{ours}modulus_bias_OD"].T[None],
            f"{theirs}bias_theta": w[f"{ours}phase_bias_OD"].T[None],
            **_renamed(w, f"{ours}implicit.", f"{theirs}im."),
            **_renamed(w, f"{ours}normalise_r.", f"{theirs}norm_r."),
            **_renamed(w, f"{ours}normalise_p.", f"{theirs}norm_p."),
        }
        n += 1
    return found


def _crossing(
    structure: str, rank: int = 0, experts: int = 1, layers: int = 3
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ours and FuxiCTR's settings of DCN-V2."""
    ours = {"num_cross_layers": layers, "cross_rank": rank, "cross_experts": experts}
    theirs = {"model_structure": structure, "num_cross_layers": layers, "low_rank": rank, "num_experts": experts}
    return ours, theirs


def _dcnv2(name: str, note: str, structure: str, **given: int) -> Form:
    ours, theirs = _crossing(structure, **given)
    mixture = {"use_low_rank_mixture": bool(ours["cross_rank"])}
    is_stacked = structure == "stacked"
    deep = "dcnv2_stacked" if is_stacked else "dcnv2"
    layers = {"hidden_units": HIDDEN, "parts": ["crossnet"], **theirs}
    options = {f"{structure}_dnn_hidden_units": HIDDEN, **mixture, **theirs}
    convert = _stacked if is_stacked else _parallel
    return Form(name, {"deep": deep, **ours}, "DCNv2/src/DCNv2.py", options, convert, layers, note=note)


_AFN = {"afn_hidden_units": HIDDEN, "dnn_hidden_units": HIDDEN, "logarithmic_neurons": 9, "batch_norm": False}
_AFN_NOTE = "FuxiCTR normalises over the batch (BatchNorm) and has no bias; both off here, as is our LayerNorm"
FORMS = (
    Form("FM", {"deep": "fm"}, "FM/src/FM.py", {}, _fm, {"parts": ["fm"]}, True),
    Form(
        "DeepFM",
        {"deep": "deepfm"},
        "DeepFM/DeepFM_torch/src/DeepFM.py",
        {"hidden_units": HIDDEN},
        _deepfm,
        {"hidden_units": HIDDEN, "parts": ["fm", "mlp"]},
        True,
        note="FuxiCTR has two biases, of which one is 0 here",
    ),
    Form(
        "DNN",
        {"deep": "dnn"},
        "DNN/DNN_torch/src/DNN.py",
        {"hidden_units": HIDDEN},
        lambda w: _renamed(w, "deep.", "mlp.mlp."),
        {"hidden_units": HIDDEN, "parts": ["mlp"]},
    ),
    _dcnv2("DCNv2 parallel", "", "parallel"),
    _dcnv2("DCNv2 stacked", "", "stacked"),
    _dcnv2(
        "DCNv2 mixture of low rank",
        "one layer: FuxiCTR's gates are shared by all layers, the paper's and ours are of each",
        "parallel",
        rank=4,
        experts=3,
        layers=1,
    ),
    Form(
        "AFN",
        {"deep": "afn", "layer_norm": False},
        "AFN/src/AFN.py",
        {"ensemble_dnn": False, **_AFN},
        _afn,
        note=_AFN_NOTE,
    ),
    Form(
        "AFN with its DNN",
        {"deep": "afn", "layer_norm": False, "afn_ensemble": True},
        "AFN/src/AFN.py",
        {"ensemble_dnn": True, **_AFN},
        _afn,
        tables=(TABLES, "embedding_layer2"),
        note=f"FuxiCTR's DNN has embeddings of its own, which are the same here; {_AFN_NOTE}",
    ),
    Form("EulerNet", {"deep": "eulernet", "layer_norm": False}, "EulerNet/src/EulerNet.py", {"shape": [5]}, _eulernet),
    Form(
        "EulerNet, two layers, normalised",
        {"deep": "eulernet", "euler_orders": (6, 4)},
        "EulerNet/src/EulerNet.py",
        {"shape": [6, 4], "layer_norm": True},
        _eulernet,
    ),
)


def settings_of(form: Form, dim: int) -> ModelSettings:
    """Ours."""
    shared = {"dim": dim, "hidden": tuple(HIDDEN), "log_neurons": 9, "euler_orders": (5,), "adapter": False}
    return ModelSettings(**{**shared, **form.model})


def adjust(form: Form, weights: dict[str, torch.Tensor]) -> None:
    """Take out what FuxiCTR does not have."""
    if form.model["deep"] == "afn":
        weights["logarithmic.neurons.bias"].zero_()
