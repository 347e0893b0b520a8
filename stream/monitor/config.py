"""Settings of the monitor."""

from typing import Annotated

import msgspec
from msgspec import Meta

PositiveInt = Annotated[int, Meta(gt=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Edges = Annotated[tuple[PositiveInt, ...], Meta(min_length=1, max_length=12)]


class MonitorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cohorts, how finely and how long their figures are kept, when they raise an alarm, and where the page is."""

    enabled: bool = True
    """Whether the learner keeps cohort figures."""
    user_impressions: Edges = (1, 5, 10, 50, 200)
    """Lower bounds of the user cohorts but the first, by earlier impressions: 0, 1-4, 5-9, 10-49, 50-199, 200+."""
    item_impressions: Edges = (1, 5, 10, 50, 200)
    """The same for items."""
    account_days: Edges = (1, 7, 30)
    """Lower bounds of the account-age cohorts but the first, days since the user's first impression."""
    nth_impressions: PositiveInt = 50
    """Length of the curve by n-th impression."""
    bucket_s: PositiveFloat = 2.0
    """Wall-clock length of the finest bucket."""
    max_buckets: Annotated[int, Meta(ge=40)] = 800
    """Buckets kept per learner run; beyond, the older half is merged pairwise, so what is older is coarser. A bucket is
    some 7 KB in Redis, and the frozen twin has as many again."""
    max_runs: PositiveInt = 10
    """Learner runs whose history is kept."""
    window_s: PositiveFloat = 300.0
    """Length of the window that "now" means, wall clock."""
    drift_block: PositiveInt = 2000
    """Samples of a cohort that give the drift detectors one value."""
    drift_threshold: PositiveFloat = 0.3
    """Page-Hinkley's lambda: by how much a cohort's NE against popularity, or the logarithm of its calibration, must
    have moved, summed over blocks."""
    drift_tolerance: PositiveFloat = 0.03
    """Page-Hinkley's delta: a change of this size in a block is none."""
    half_life: PositiveInt = 20_000
    """Samples of a cohort after which a sample counts half in its fading figures."""
    twin_share: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Share of the users whose impressions the frozen twin scores, too; 0: there is no twin. More where users are few:
    its figures are as sure as the number of its users lets them be."""
    twin_age_h: PositiveFloat = 24.0
    """Least age of the frozen twin's weights, hours of event time; it takes younger ones once they are that old. Those
    that are on their way to it, up to six snapshots, stay in Redis."""
    host: str = "127.0.0.1"
    """Address the page binds to; loopback unless told otherwise, as it has no login."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8900

    def __post_init__(self) -> None:
        for name in ("user_impressions", "item_impressions", "account_days"):
            edges = getattr(self, name)
            if list(edges) != sorted(set(edges)):
                raise ValueError(f"monitor.{name} must ascend without repeats, got {list(edges)}")
