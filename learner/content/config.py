"""Settings of content-made starts; msgspec only."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import FieldSettings, PositiveInt, Rate, Width

Method = Literal["none", "zero", "mean", "category", "nearest", "learned"]
Similarity = Annotated[float, Meta(ge=-1, le=1)]


class ContentStartSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new item's first-order weight and factors start with (after IDP, arXiv 2405.03562), instead of chance.

    An item that has no row, being new or below its field's `min_count`, is also predicted and served with them.
    """

    method: Method = "none"
    """none: as other ids, by chance, and nothing where there is no row. zero: 0. mean: of the pool. category: of those
    in the pool that share a value of the field `category`. nearest: of the `neighbours` most like it by content,
    TF-IDF of the item's declared fields. learned: likewise, behind a linear map that is learned with what behaves
    alike. Where one cannot be had, the next simpler one is taken: category, mean, zero."""
    category: str = ""
    """Field of group item that says which items are of a kind; empty: none does."""
    neighbours: Annotated[int, Meta(gt=0, le=1000)] = 50
    """m, of whom the weighted mean is taken."""
    least: Similarity = 0.2
    """Cosine below which the most similar item is not similar."""
    weight_share: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """What the first-order weight's mean is multiplied by: what an item has beyond its fields, content hardly says."""
    factor_share: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """What is taken of the difference between its vector and the mean vector: 0 starts all with that."""
    evidence: Annotated[float, Meta(gt=0, le=1e9)] = 2.0
    """Squared gradients of its weight from which an item is in the pool; a sample adds (y - p)^2, about .2."""
    max_items: Annotated[int, Meta(gt=0, le=1_000_000)] = 50_000
    """Items whose content is kept at most, four bytes for each of `buckets`, as it is and as it is compared, and in a
    scorer for both of its models; those that come later find, and are not found."""
    buckets: Annotated[int, Meta(ge=16, le=1 << 14)] = 512
    """Width of the hashed content vector, a power of two."""
    every: PositiveInt = 2000
    """Samples learned between two looks at the pool; never fewer than it has items."""
    width: Width = 64
    """Of the learned map's vectors."""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.1
    """tau of both InfoNCE terms."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    """Share of an item's content that is dropped, twice differently, for the text's term."""
    behaviour: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Weight of the term of behaviour beside that of text."""
    batch: Annotated[int, Meta(ge=2, le=4096)] = 128
    """Items per step of the map."""
    steps: Annotated[int, Meta(gt=0, le=1000)] = 4
    """Steps of the map at each look."""
    lr: Rate = 3e-3
    """Adam, of the map."""

    def __post_init__(self) -> None:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"content_start.buckets must be a power of two, got {self.buckets}")

    @property
    def is_on(self) -> bool:
        """Whether new items start otherwise than by chance."""
        return self.method != "none"

    @property
    def finds(self) -> bool:
        """Whether items are sought that are like a new one."""
        return self.method in ("nearest", "learned")

    @property
    def has_map(self) -> bool:
        """Whether there is something to learn."""
        return self.method == "learned"


def is_content(field: FieldSettings) -> bool:
    """Whether a field says what an item is."""
    return field.group == "item" and field.name != "item_id"


def check_fields(settings: ContentStartSettings, fields: Sequence[FieldSettings]) -> None:
    """Whether starts can be made of the declared fields.

    Raises:
        ValueError: they cannot.
    """
    names = [field.name for field in fields if is_content(field)]
    if settings.finds and not names:
        raise ValueError(
            f"content_start.method is {settings.method!r}, and no field of group item says what an item is; declare "
            "one, or choose mean or zero"
        )
    if settings.category and settings.category not in names:
        raise ValueError(f"content_start.category {settings.category!r} is none of the items' declared fields {names}")
