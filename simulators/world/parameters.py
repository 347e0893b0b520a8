"""What a world is like: every parameter, with its bounds. The default world is `world.toml`, beside this file."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from state_store.errors import OperatorError

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=-20, le=20)]
Spread = Annotated[float, Meta(ge=0, le=10)]
Number = Annotated[int, Meta(ge=1, le=10_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Days = Annotated[float, Meta(gt=0, le=36_500)]
Name = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,63}\Z")]
Values = Annotated[int, Meta(ge=1, le=100_000)]

SHIPPED = Path(__file__).parent / "world.toml"


class WorldError(OperatorError):
    """Parameters of a world are unknown or out of bounds."""


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A long tail: exp(sigma z), z standard normal and at most `cap`."""

    sigma: Spread
    """Standard deviation of the logarithm. With a cap of 3, 3 gives 5 % of all some 83 % of the whole."""
    cap: Annotated[float, Meta(ge=0, le=10)] = 3.0
    """No z is greater: nobody comes every minute."""


class Taste(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Taste is an inner product of a user's and an item's latent vector."""

    dim: Annotated[int, Meta(ge=1, le=256)] = 8
    """Length of the vectors."""
    scale: Spread = 1.2
    """Standard deviation of taste over random pairs, as a part of a click's logit."""
    drift: Share = 0.02
    """Share of the variance of a user's own taste that is drawn anew each day."""


class Users(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is there."""

    number: Number = 4000
    """Users at any time."""
    turnover: Share = 0.04
    """Share of them that leaves for good in a day, whoever it is; as many arrive, each with a first visit."""
    visits_per_day: Annotated[float, Meta(gt=0, le=1000)] = 0.75
    """Mean visits of a user in a day."""
    activity: Tail = Tail(3.3)
    """How visits are spread over users."""
    attributes: dict[Name, Values] = field(default_factory=lambda: {"age": 8, "region": 20, "device": 4})
    """What is known of a user, and how many values each attribute has."""
    attribute_share: Share = 0.3
    """Share of the variance of taste that the attributes carry, all of them alike."""
    level: Spread = 0.5
    """Standard deviation of a user's own part of the logit: some click on anything."""


class Items(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What there is to see."""

    number: Number = 2000
    """Items at any time."""
    turnover: Share = 0.03
    """Share of them that is replaced in a day by new ones, whichever it is."""
    popularity: Tail = Tail(3.2)
    """How exposure by popularity is spread over items."""
    attributes: dict[Name, Values] = field(default_factory=lambda: {"category": 30, "author": 400})
    """What is known of an item."""
    attribute_share: Share = 0.4
    """Share of the variance of taste that the attributes carry, all of them alike."""
    quality: Spread = 0.6
    """Standard deviation of an item's quality, a part of the logit that everybody sees alike."""
    quality_popularity: Annotated[float, Meta(ge=-1, le=1)] = 0.5
    """Correlation of quality and the logarithm of popularity."""
    trend: Spread = 0.5
    """Standard deviation of the logarithm of what trends make of an item's popularity."""
    trend_days: Days = 3.0
    """In so many days a trend falls to 1/e."""
    lifetime_days: Days = 60.0
    """In so many days an item's popularity falls to 1/e."""


class Candidates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where candidates come from: by popularity, from the newest, and, for the rest, at random."""

    popular: Share = 0.95
    """Share of them that is drawn by popularity."""
    new: Share = 0.02
    """Share of them that is drawn from the newest."""
    newest: Number = 100
    """How many items are the newest."""

    def __post_init__(self) -> None:
        if self.popular + self.new > 1:
            raise ValueError(f"popular {self.popular} + new {self.new} must be <= 1: the rest is drawn at random")


class Lists(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a visit is: a list of items."""

    size: Annotated[int, Meta(ge=1, le=1000)] = 6
    """Impressions of a visit, unless there are fewer candidates."""
    seconds: Annotated[float, Meta(ge=0, le=600)] = 4.0
    """Time between two impressions of a list."""
    position_bias: Annotated[float, Meta(ge=0, le=5)] = 0.4
    """An item at position p, from 0, is looked at with probability (1 + p)^-this; nothing comes of the others."""
    noise: Share = 0.02
    """Share of the clicks that are no taste: with this probability a click is as likely as it is on average."""
    shown: Candidates = Candidates()
    """What a log shows: candidates as they come, ranked by nobody."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that may come of an impression: probability sigmoid(base + taste (t + q) + own part of the item)."""

    name: Name
    base: Weight
    """The logit's constant."""
    taste: Weight = 1.0
    """Weight of taste and quality."""
    item: Spread = 0.0
    """Standard deviation of the item's own part."""
    of: Literal["shown", "clicked"] = "clicked"
    """What it may come of. The first outcome is the click itself; it is of what is shown."""
    delay_s: Seconds = 20.0
    """Median of the time from the impression to it."""
    delay_sigma: Spread = 1.0
    """Standard deviation of the delay's logarithm."""
    value: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """Above 0: it has a value, seconds that pass, log-normal with this median for t + q = 0; they are its delay."""
    value_taste: Weight = 0.0
    """By how much the logarithm of the value grows with t + q."""


class Returns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How what was seen decides how often a user comes: visits are exp(strength s) as frequent, 1/3 to 3 times.

    s is a running mean over a user's lists of (mean click probability of the items, looked at, less `expected`).
    """

    strength: Annotated[float, Meta(ge=-100, le=100)] = 2.0
    """How much more often comes who was served well; 0: as often."""
    memory: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """Weight of the newest list in the running mean."""
    expected: Share = 0.4
    """Mean click probability that makes nobody come more or less often."""


_OUTCOMES = (
    Outcome("click", base=-1.6, of="shown", delay_s=3.0, delay_sigma=0.8),
    Outcome("watch", base=20.0, taste=0.0, value=15.0, value_taste=0.3, delay_sigma=0.8),
    Outcome("finish", base=-0.6, taste=0.5, item=0.5, delay_s=25.0, delay_sigma=0.6),
    Outcome("like", base=-2.6, taste=0.8, item=0.3, delay_s=20.0, delay_sigma=1.5),
    Outcome("comment", base=-4.2, taste=0.5, item=0.7, delay_s=60.0, delay_sigma=1.2),
    Outcome("dislike", base=-5.0, taste=-0.8, item=0.5, of="shown", delay_s=5.0, delay_sigma=1.0),
)


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A world."""

    begin_ms: Annotated[int, Meta(ge=631_152_000_000, le=4_000_000_000_000)] = 1_704_067_200_000
    """Event time at which it begins."""
    step_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    """The world moves in such steps; within one, nobody is influenced by what is seen in it."""
    daily_wave: Share = 0.5
    """Visits over the day: 1 - this at its quietest, 1 + this at its busiest."""
    taste: Taste = Taste()
    users: Users = Users()
    items: Items = Items()
    lists: Lists = Lists()
    outcomes: Annotated[tuple[Outcome, ...], Meta(min_length=1, max_length=8)] = _OUTCOMES
    returns: Returns = Returns()

    def __post_init__(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        if len(set(names)) < len(names):
            raise ValueError(f"outcomes: a name is there twice: {names}")
        if self.outcomes[0].of != "shown":
            raise ValueError(f"outcomes: the first, {names[0]!r}, is the click: it must be of what is shown")
        shared = sorted(set(self.users.attributes) & set(self.items.attributes))
        if shared:
            raise ValueError(f"attributes {shared} are of users and of items; give them different names")
        list_ms, step_ms = self.lists.size * self.lists.seconds * 1000, self.step_minutes * 60_000
        if list_ms >= step_ms:
            raise ValueError(f"a list takes {list_ms:.0f} ms and a step {step_ms} ms; it must end within one")


def load_parameters(file: Path = SHIPPED) -> Parameters:
    """Read a world's TOML file; what it leaves out is as in the default world.

    Raises:
        WorldError: it cannot be read, or a parameter is unknown or out of bounds.

    >>> load_parameters() == Parameters()
    True
    """
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Parameters)
    except OSError as exc:
        raise WorldError(f"world {file}: {exc.strerror}; `coldstream world show` prints one to start from") from exc
    except (msgspec.MsgspecError, ValueError) as exc:
        raise WorldError(f"world {file}: {exc}") from exc
