"""Settings of SASRec; msgspec only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import PositiveInt, Rate

Loss = Literal["bpr", "bce", "softmax"]


class SasRecSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SASRec (Kang and McAuley, ICDM 2018), and how it is trained."""

    width: PositiveInt = 64
    """d, of items, positions and blocks."""
    blocks: PositiveInt = 2
    heads: PositiveInt = 2
    inner: PositiveInt = 256
    """Width of the position-wise network."""
    length: Annotated[int, Meta(ge=2, le=1000)] = 50
    """Newest items that are read."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    loss: Loss = "bpr"
    """bpr: the next item above one drawn for each position. bce: the same pair by binary cross-entropy, as in SASRec.
    softmax: the next item among all."""
    lr: Rate = 1e-3
    """Adam."""
    batch: PositiveInt = 128
    """Sequences in a step."""
    epochs: PositiveInt = 60
    """At most."""
    patience: PositiveInt = 5
    """Epochs without a better validation NDCG@10, after which training ends."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
