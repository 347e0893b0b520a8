"""The deep part as ONNX, for programs that have none of this project.

It takes each field's pooled embedding (sum of weight times row), its pooled first-order weight, the norms of user and
item, and their counters; it gives the logit of the deep part, of each task if it has heads. An input that the model
makes nothing of is not there, as are norms and counters without an adapter.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from learner.adaf2m2.deep import dense_of, weights_in
from learner.adaf2m2.model import AdaF2M2
from learner.named import arrays_in
from learner.recipe import Recipe

INPUTS = ("embeddings", "first_order", "norms", "counts")
OUTPUT = "logit"
_OPSET = 17
_TRACED = 2
"""Samples of the example that is traced; any number will do later."""


def write_dense(recipe: Recipe, blob: bytes, path: Path) -> None:
    """Write the dense part of a full snapshot as ONNX; needs the package onnx.

    Args:
        recipe: of the learner that published it; `recipe.has_deep` is true.
        blob: the snapshot.
        path: of the file.
    """
    model = dense_of(recipe).eval()
    model.load_state_dict(weights_in(arrays_in(blob)))
    fields, counts = len(recipe.fields), recipe.num_counts
    shapes = (fields, recipe.model.dim), (fields,), (2,), (counts,)
    example = tuple(torch.rand(_TRACED, *shape) for shape in shapes)
    with warnings.catch_warnings():
        # The newer exporter needs two packages more; this one writes all of these models.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _OfPooled(model),
            example,
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "samples"} for name in (*INPUTS, OUTPUT)},
        )


class _OfPooled(nn.Module):
    """The model behind the tables."""

    def __init__(self, model: AdaF2M2) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, emb_BFD: Tensor, first_BF: Tensor, norms_B2: Tensor, counts_BC: Tensor) -> Tensor:
        return self.model.of_pooled(emb_BFD, first_BF, norms_B2, counts_BC)
