"""Settings of content-made starts, of items and of users; msgspec only."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from learner.config import FieldSettings, PositiveInt, Rate, Width

Method = Literal["none", "zero", "mean", "category", "nearest", "learned"]
Kind = Literal["item", "user"]
"""Of what starts are made: `[content_start]` is of items, `[user_start]` of users."""
_A = {"item": "an item", "user": "a user"}
Similarity = Annotated[float, Meta(ge=-1, le=1)]


class ContentStartSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new item's, or a new user's, first-order weight and factors start with, instead of chance, or of 0.

    After IDP (arXiv 2405.03562). Whoever has no row, being new or below its field's `min_count`, is also predicted and
    served with them. An item's content is its declared fields; a user's are its attributes, and the context of its
    first sample. *One* below is either.
    """

    method: Method = "none"
    """none: as other ids, by chance, and nothing where there is no row. zero: 0. mean: of the pool. category: of those
    in the pool that share a value of the field `category`. nearest: of the `neighbours` most like it by content,
    TF-IDF of its declared fields. learned: likewise, behind a linear map that is learned with what behaves
    alike. Where one cannot be had, the next simpler one is taken: category, mean, zero."""
    category: str = ""
    """Field of the content that says which ones are of a kind; empty: none does."""
    neighbours: Annotated[int, Meta(gt=0, le=1000)] = 50
    """m, of whom the weighted mean is taken."""
    least: Similarity = 0.2
    """Cosine below which the most similar one is not similar."""
    weight_share: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """What the first-order weight's mean is multiplied by: what one has beyond its fields, content hardly says."""
    factor_share: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """What is taken of the difference between an item's vector and the mean vector, 0 starts all with that; of a user's
    vector itself, which otherwise starts at 0."""
    evidence: Annotated[float, Meta(gt=0, le=1e9)] = 2.0
    """Squared gradients of its weight from which one is in the pool; a sample adds (y - p)^2, about .2."""
    max_items: Annotated[int, Meta(gt=0, le=1_000_000)] = 50_000
    """How many have their content kept at most, 4 bytes for each of `buckets`, as it is and as it is compared, and in
    a scorer for both of its models; those that come later find, and are not found."""
    exact_items: Annotated[int, Meta(gt=0, le=1_000_000)] = 100_000
    """With more than so many in the pool a new one is not compared with all, but with those of the groups that are most
    like it; about 96 % of its neighbours are found. Needs the extra `search` (faiss)."""
    buckets: Annotated[int, Meta(ge=16, le=1 << 14)] = 512
    """Width of the hashed content vector, a power of two."""
    words: str = ""
    """File of vectors of words, by which content is alike that has no word in common (`coldstream words` makes it);
    learner and scorers read it. Empty: none."""
    words_width: Width = 64
    """Its first dimensions, which are taken."""
    words_share: Annotated[float, Meta(ge=0, le=100)] = 1.0
    """How much words' vectors together weigh beside a value that no other item has."""
    every: PositiveInt = 2000
    """Samples learned between two looks at the pool; never fewer than it has members."""
    width: Width = 64
    """Of the learned map's vectors."""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.1
    """tau of both InfoNCE terms."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    """Share of the content that is dropped, twice differently, for the text's term."""
    behaviour: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Weight of the term of behaviour beside that of text."""
    batch: Annotated[int, Meta(ge=2, le=4096)] = 128
    """Items, or users, per step of the map."""
    steps: Annotated[int, Meta(gt=0, le=1000)] = 4
    """Steps of the map at each look."""
    lr: Rate = 3e-3
    """Adam, of the map."""

    def __post_init__(self) -> None:
        if self.buckets & (self.buckets - 1):
            raise ValueError(f"content_start.buckets must be a power of two, got {self.buckets}")

    @property
    def is_on(self) -> bool:
        """Whether new ones start otherwise."""
        return self.method != "none"

    @property
    def content_width(self) -> int:
        """Of an item's content: H, buckets, and behind them what words say."""
        return self.buckets + (self.words_width if self.words else 0)

    @property
    def finds(self) -> bool:
        """Whether those are sought that are like a new one."""
        return self.method in ("nearest", "learned")

    @property
    def has_map(self) -> bool:
        """Whether there is something to learn."""
        return self.method == "learned"


class HasStarts(Protocol):
    """What says how new ones start."""

    @property
    def content_start(self) -> ContentStartSettings:
        """Of items."""

    @property
    def user_start(self) -> ContentStartSettings:
        """Of users."""


def starts_of(settings: HasStarts) -> dict[Kind, ContentStartSettings]:
    """Those that are on, in the order in which everything has them."""
    both: dict[Kind, ContentStartSettings] = {"item": settings.content_start, "user": settings.user_start}
    return {kind: starts for kind, starts in both.items() if starts.is_on}


def section_of(kind: Kind) -> str:
    """Where the settings of such starts are.

    >>> section_of("item"), section_of("user")
    ('content_start', 'user_start')
    """
    return "content_start" if kind == "item" else "user_start"


def is_content(field: FieldSettings, kind: Kind) -> bool:
    """Whether a field says what an item is, or what is known of a user who has just come.

    >>> is_content(FieldSettings("hour", "context", "categorical"), "user")
    True
    """
    groups = ("item",) if kind == "item" else ("user", "context")
    return field.group in groups and field.name != f"{kind}_id"


def check_fields(settings: ContentStartSettings, fields: Sequence[FieldSettings], kind: Kind) -> None:
    """Whether starts can be made of the declared fields.

    Raises:
        ValueError: they cannot.
    """
    names, section = [field.name for field in fields if is_content(field, kind)], section_of(kind)
    groups = "group item" if kind == "item" else "group user or context"
    if settings.finds and not names:
        raise ValueError(
            f"{section}.method is {settings.method!r}, and no field of {groups} says what {_A[kind]} is; "
            "declare one, or choose mean or zero"
        )
    if settings.finds and settings.max_items > settings.exact_items and find_spec("faiss") is None:
        raise ValueError(
            f"{section}: with max_items {settings.max_items}, above exact_items {settings.exact_items}, the pool is "
            "searched by faiss, which is not installed: pip install 'coldstream[search]', or raise exact_items, "
            "which makes each new one slower"
        )
    if settings.category and settings.category not in names:
        raise ValueError(f"{section}.category {settings.category!r} is none of the {kind}s' declared fields {names}")
