"""What every reader of histories is: the target and what a user did -> vectors that g takes as further fields."""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn


class Sequences(NamedTuple):
    """Histories of B samples: H of them, the newest L entries of each, the newest first."""

    items_BHLD: Tensor
    categories_BHLD: Tensor
    """Zeros where a history has no category."""
    mask_BHL: Tensor
    """bool: whether there is an entry whose item has a row."""
    gaps_BHL: Tensor
    """Milliseconds from each entry to the impression."""
    codes_BHL: Tensor | None = None
    """int64: codes of the sample that each entry is of (`learner/sif/packed.py`); 0 where a history has none."""
    own_BID: Tensor | None = None
    """What the reader itself has of the candidate's inputs, if it has embeddings of its own."""

    def repeated(self, times: int) -> "Sequences":
        """The same for several copies of each sample, copy by copy."""
        told = [None if of is None else of.repeat(times, *[1] * (of.dim() - 1)) for of in self]
        return Sequences(*told)  # type: ignore[arg-type]


class Query(NamedTuple):
    """The candidate of B samples."""

    item_BD: Tensor
    category_BHD: Tensor
    """Of the field that each history's category is of; zeros where it has none."""
    fields_BFD: Tensor | None = None
    """All its fields."""


class Reader(nn.Module):
    """Histories -> vectors. Works on each sample by itself, and gives zeros of a history without entries.

    Args:
        num_histories: H.
        dim: D.

    Shape:
        query, sequences -> fields_BXD, X = `num_fields`
    """

    by_category: ClassVar[bool] = False
    """Whether it is given only those entries that have the candidate's category."""

    def __init__(self, num_histories: int, dim: int) -> None:
        super().__init__()
        self.num_histories, self.dim = num_histories, dim

    @property
    def num_fields(self) -> int:
        """X, vectors that it gives."""
        return self.num_histories

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """The vectors."""
        raise NotImplementedError("each reader has its own")
