"""Settings of the fast part; msgspec only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import PositiveInt, Probability, Rate, Width
from learner.content.config import ContentStartSettings

Prior = Annotated[float, Meta(gt=0, le=1e9)]
Rows = Annotated[int, Meta(gt=0, le=2**31 - 2)]
Signal = Literal[
    "user_count",
    "user_inverse",
    "item_count",
    "item_inverse",
    "item_positives",
    "item_rate",
    "user_gap",
    "user_pace",
    "account_age",
]
Bounds = Annotated[tuple[Annotated[int, Meta(gt=0, le=1 << 31)], ...], Meta(max_length=100)]
MaskFields = Literal["item_id", "user_id", "ids", "all"]
MAX_CROSSES = 64


class GroupSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the values of a group of fields are learned."""

    prior: Prior
    """s0: the evidence that a first-order weight waits for, in squared gradients. An id that comes with few samples
    must be believed soon; a weight that is in every third sample need not be."""
    rate: Rate
    """eta: step of the factors."""


class CrossSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A first-order weight for every pair of values of two fields."""

    fields: tuple[str, str]

    def __post_init__(self) -> None:
        if self.fields[0] == self.fields[1]:
            raise ValueError(f"a cross is of two fields, got {self.fields[0]} twice")


class FastSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults are one configuration that was measured on MovieLens-1M and on KuaiRand-Pure, and does well on both."""

    factors: Width = 24
    """D, length of the vectors whose products are learned."""
    user: GroupSettings = GroupSettings(4.0, 0.2)
    """The user's id."""
    kalman: bool = True
    """Learn each user's weight and factors by a Kalman filter (`learner/fast/learning/kalman.py`), which keeps their
    covariance, instead of by `user`. That is 1,340 bytes more for a user at 24 factors, in the learner alone."""
    user_variance: Annotated[float, Meta(gt=0, le=1e6)] = 0.3
    """Of users' factors, before any is known."""
    user_weight_variance: Annotated[float, Meta(gt=0, le=1e6)] = 0.3
    """Of users' first-order weights."""
    max_covariances: Rows = 2_000_000
    """Users whose covariance is kept at the same time; those beyond are learned by `user`."""
    population_rate: Annotated[float, Meta(ge=0, le=1)] = 3e-5
    """lambda: how soon new users begin as those before them have turned out."""
    attributes: GroupSettings = GroupSettings(200.0, 0.03)
    """Other fields of the user."""
    context: GroupSettings = GroupSettings(10.0, 0.06)
    item: GroupSettings = GroupSettings(5.0, 0.1)
    """The item's id."""
    content: GroupSettings = GroupSettings(20.0, 0.03)
    """Other fields of the item."""
    cross_prior: Prior = 15.0
    """s0 of the crosses."""
    square_prior: Prior = 0.2
    """h0: what the sum of a factor's squared gradients starts with."""
    forget: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of its evidence, the sum of squared gradients of the first-order weight, that a row loses with each sample
    it occurs in. 0: what was learned is believed ever more firmly; .001: as if the last thousand had taught it."""
    init_std: Annotated[float, Meta(ge=0, le=100)] = 0.03
    """Standard deviation of new factors; users' start at 0."""
    centre: Annotated[float, Meta(ge=0, le=1)] = 0.001
    """Rate of the running means that are taken off the item side, so that no product depends on the user alone."""
    bias_rate: Rate = 0.05
    gate: bool = True
    """Weigh components by the state of user and item (AdaF2M2 3.4, on components)."""
    gate_hidden: Width = 32
    """Width of the gate's hidden layer."""
    gate_lr: Rate = 1e-3
    """Adam, in the long run: step t has it times 1 + 3 / (1 + t / 100), as a short log needs a gate soon."""
    gate_batch: PositiveInt = 64
    """Samples per step of the gate."""
    gate_signals: Annotated[tuple[Signal, ...], Meta(max_length=64)] = (
        "user_count",
        "user_inverse",
        "item_count",
        "item_inverse",
        "item_positives",
        "item_rate",
        "user_pace",
    )
    """State signals that the gate is told (`learner/fast/inputs/signals.py`). `user_gap` is not among them: of a list,
    all but the first impression come right behind another, while whoever scores it asks before any of them."""
    gate_norms: bool = False
    """Tell the gate the norms of the user's and the item's vector as well (the paper's r_norm). Off: beside the counts
    they bring nothing when a label is learned, and as served cost users with fewer than 10 impressions .002 AUC."""
    levels: bool = True
    """Add a level for how often the user, and the item, has been shown so far, behind the gate: where the base rate has
    steps that the gate's smooth signals cannot follow, this does, and keeps cohorts calibrated."""
    user_levels: Bounds = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50, 100, 200, 400)
    """Lower bounds of the users' levels but the first, in impressions."""
    item_levels: Bounds = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
    level_rate: Rate = 0.5
    level_prior: Prior = 100.0
    """Evidence that a level waits for, in samples times p (1 - p)."""
    num_masks: Annotated[int, Meta(ge=0, le=16)] = 0
    """k, masked copies of each sample (AdaF2M2 3.3), learned one by one behind it. A masked field is as one that has no
    row yet, which is what a cold one is. Off: see RESULTS.md for what they bring, and to whom."""
    mask_fields: MaskFields = "ids"
    """Fields that may be masked."""
    mask_low: Probability = 0.1
    """beta, least probability that a field is masked; drawn anew for each copy."""
    mask_high: Probability = 0.5
    """gamma, greatest probability that a field is masked."""
    mask_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.2
    """alpha in L = L_main + alpha L_aux; L_aux is a sum over the copies (eq. 3)."""
    history_items: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Of each history the newest so many items: the mean of their factors is one more vector of the user, multiplied
    with the item's and the content's. 0: histories are for the deep part alone."""
    history_rate: Annotated[float, Meta(ge=0, le=100)] = 0.2
    """eta of what the items of a history learn from that; 0: nothing, and then the vector brings nothing either."""
    max_rows: Rows = 50_000_000
    """Ids that may have a row at the same time. Their addresses are reserved at the start (218 bytes each at 24
    factors), memory is used when they come: 238 to 258 bytes each."""
    max_cross_rows: Rows = 200_000_000
    """Pairs likewise: 26 bytes reserved, 46 to 66 used."""
    counted_ids: Annotated[int, Meta(gt=0, le=1 << 26)] = 1 << 20
    """Distinct ids that a generation of the admission filter takes; 32 bytes of memory for each, once a field has a
    `min_count` above 1."""

    def __post_init__(self) -> None:
        if self.mask_low > self.mask_high:
            raise ValueError(f"fast.mask_low {self.mask_low} must be <= fast.mask_high {self.mask_high}")
        for name in ("user_levels", "item_levels"):
            bounds = getattr(self, name)
            if list(bounds) != sorted(set(bounds)):
                raise ValueError(f"fast.{name} must ascend without repeats, got {list(bounds)}")


class FastRecipe(FastSettings, frozen=True, forbid_unknown_fields=True):
    """The fast part of one model: its settings, the declared crosses, the histories that it has vectors of, and what
    new items and users start with."""

    crosses: Annotated[tuple[CrossSettings, ...], Meta(max_length=MAX_CROSSES)] = ()
    content_start: ContentStartSettings = ContentStartSettings()
    user_start: ContentStartSettings = ContentStartSettings()
    histories: tuple[str, ...] = ()
