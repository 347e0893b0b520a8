"""What the learner publishes: dense weights and embedding rows, full or only those touched. Nothing is unpickled."""

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from learner.adaf2m2.loss import probabilities
from learner.adaf2m2.model import AdaF2M2
from learner.batch import Collator
from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.learner import Learner
from learner.sample import Sample
from learner.tables.embedding import EmbeddingTable


class RowIds(msgspec.Struct, frozen=True, array_like=True):
    """Ids of a blob's rows, in order, and of the rows evicted since the blob before."""

    rows: list[tuple[int, str]]
    evicted: list[tuple[int, str]]


def encode_snapshot(learner: Learner, rows: np.ndarray | None, evicted: Sequence[tuple[int, str]] = ()) -> bytes:
    """Encode dense weights with the given rows, or with every row in use if `rows` is None."""
    table = learner.table
    if rows is None:
        rows = np.array(sorted(row for field in table.rows_of for row in field.values()), np.int64)
    ids = msgspec.msgpack.encode(RowIds([table.owner[row] for row in rows.tolist()], list(evicted)))
    tensors = {f"dense.{name}": value for name, value in learner.dense.state_dict().items()}
    tensors["rows.values"] = table.values_RD[torch.from_numpy(rows)]
    tensors["rows.ids"] = torch.frombuffer(bytearray(ids), dtype=torch.uint8)
    blob: bytes = save(tensors)
    return blob


class ServingModel:
    """The model as a scorer holds it: no optimiser, no new rows; unknown ids are the zero vector.

    Args:
        model: the model section the learner was started with.
        learning: its learner section.
        fields: declared fields.
        num_actions: feedback actions that are counted.
    """

    def __init__(
        self, model: ModelSettings, learning: LearnerSettings, fields: Sequence[FieldSettings], num_actions: int
    ) -> None:
        self._learning = learning
        self._dense = AdaF2M2(model, fields, 2 * (1 + num_actions)).eval()
        self._table = EmbeddingTable([1] * len(fields), model.dim, 0.0, 1.0, torch.Generator())
        self._collate = Collator(fields, self._table, learning=False).collate

    def load(self, blob: bytes) -> None:
        """Take a full or incremental snapshot in; an incremental one goes on top of what is there."""
        tensors = load(blob)
        ids = msgspec.msgpack.decode(tensors.pop("rows.ids").numpy().tobytes(), type=RowIds)
        values: Tensor = tensors.pop("rows.values")
        self._dense.load_state_dict({name.removeprefix("dense."): value for name, value in tensors.items()})
        self._table.drop(ids.evicted)
        table = self._table
        rows = [table.rows_of[field].get(key) or table.add(field, key) for field, key in ids.rows]
        table.values_RD[rows] = values

    def predict_many(self, samples: Sequence[Sample]) -> np.ndarray:
        """y_adapt per sample; labels are ignored."""
        batch = self._collate(samples)
        with torch.inference_mode():
            rows_UD = self._table.values_RD.index_select(0, batch.rows_U)
            return probabilities(self._dense(rows_UD, batch).main_B, self._learning).numpy()

    def adapter_weights(self, samples: Sequence[Sample]) -> np.ndarray | None:
        """The adapter's weight per field, shape (B, F); None without an adapter."""
        batch = self._collate(samples)
        with torch.inference_mode():
            rows_UD = self._table.values_RD.index_select(0, batch.rows_U)
            weight_BF = self._dense(rows_UD, batch).weight_BF
        return None if weight_BF is None else weight_BF.numpy()
