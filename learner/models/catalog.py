"""Interaction models by their names, as `model.deep` has them."""

from collections.abc import Callable, Mapping
from typing import Any

from learner.config import ModelSettings
from learner.models.afn import AFN
from learner.models.dcnv2 import DCNv2, StackedDCNv2
from learner.models.deepfm import DeepFM
from learner.models.dnn import DNN
from learner.models.eulernet import EulerNet
from learner.models.fm import FM
from learner.models.interaction import Interaction
from learner.models.sif import SIFHead
from learner.models.youtubednn import YouTubeDNN

_Builder = Callable[[ModelSettings, int], Interaction]


def _crosses(model: ModelSettings) -> dict[str, Any]:
    return {
        "num_cross_layers": model.num_cross_layers,
        "hidden": model.hidden,
        "cross_rank": model.cross_rank,
        "cross_experts": model.cross_experts,
        "dropout": model.dropout,
    }


def _afn(model: ModelSettings, num_fields: int) -> Interaction:
    return AFN(
        num_fields,
        model.dim,
        num_neurons=model.log_neurons,
        hidden=model.hidden,
        ensemble=model.afn_ensemble,
        layer_norm=model.layer_norm,
        dropout=model.dropout,
    )


def _eulernet(model: ModelSettings, num_fields: int) -> Interaction:
    return EulerNet(
        num_fields, model.dim, orders=model.euler_orders, layer_norm=model.layer_norm, dropout=model.dropout
    )


BUILDERS: Mapping[str, _Builder] = {
    "fm": lambda model, num_fields: FM(),
    "deepfm": lambda model, num_fields: DeepFM(num_fields, model.dim, hidden=model.hidden, dropout=model.dropout),
    "dnn": lambda model, num_fields: DNN(num_fields, model.dim, hidden=model.hidden, dropout=model.dropout),
    "youtubednn": lambda model, num_fields: YouTubeDNN(num_fields, model.dim, hidden=model.hidden),
    "afn": _afn,
    "dcnv2": lambda model, num_fields: DCNv2(num_fields, model.dim, **_crosses(model)),
    "dcnv2_stacked": lambda model, num_fields: StackedDCNv2(num_fields, model.dim, **_crosses(model)),
    "eulernet": _eulernet,
    "sif": lambda model, num_fields: SIFHead(model.dim, hidden=model.hidden, dropout=model.dropout),
}
"""Name -> what makes it, of settings and F."""

NAMES = tuple(BUILDERS)
"""What `model.deep` may be besides `none`."""


def build_interaction(settings: ModelSettings, num_fields: int) -> Interaction:
    """The interaction model that the settings name, for F fields.

    Raises:
        ValueError: `model.deep` is `none`.

    >>> type(build_interaction(ModelSettings(deep="deepfm"), 5)).__name__
    'DeepFM'
    """
    if settings.deep not in BUILDERS:
        raise ValueError(f"model.deep is {settings.deep!r}, which has no interaction model; set it to one of {NAMES}")
    return BUILDERS[settings.deep](settings, num_fields)
