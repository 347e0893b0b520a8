"""What the scorer is asked and what it answers, as JSON."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from state_store.rollout import Decision
from stream.events import EventTime, Id
from stream.serving.packing import Candidate


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate with features of its own."""

    item: Id
    features: Mapping[str, Any] = {}
    """By the name of the declared field, as an impression would carry them; they go before the context's."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Candidates for a user."""

    user: Id
    candidates: list[Id | Item]
    context: Mapping[str, Any] = {}
    """Features of the user and of where it is shown, the same for all candidates."""
    ts: EventTime | None = None
    """When it would be shown, event time, ms; if it is not said, now (of a log that is replayed, as it goes)."""


class RankAsked(Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The best of them."""

    n: Annotated[int, Meta(ge=1, le=100_000)] = 10
    """How many at most."""
    shown: bool = False
    """Whether all of the answer is shown: with `serving.log` it is written to Kafka at once."""


class ExplainAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate, to be taken apart."""

    user: Id
    item: Id
    features: Mapping[str, Any] = {}
    context: Mapping[str, Any] = {}
    ts: EventTime | None = None
    """As of `Asked`."""


class ShownAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the scored was shown, in the order in which it was shown."""

    imp_ids: list[Id]
    ts: EventTime | None = None
    """When, event time, ms; the scorer's clock if it is not said."""


class Scored(msgspec.Struct, frozen=True, omit_defaults=True):
    """One candidate's score."""

    item: str
    imp_id: str
    """To name it by when it is shown, and in the feedback to it."""
    probability: float
    """Of a positive label of the main task."""
    rank: float
    """What candidates of one user are ordered by: the logit without the user's own level."""
    tasks: dict[str, float] = {}
    """What is expected of each task, where all are learned (`learner.tasks`): the probability of its positive label; of
    one with `value_unit` the value itself."""
    other: float | None = None
    """The probability by weights that only scored along (`Answer.other_version`), where there are such."""


class Missing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was not known."""

    features: dict[str, int] = {}
    """Declared field -> how many candidates lack it."""
    user: bool = False
    """Whether the user has never been counted."""
    items: int = 0
    """How many of the items have never been counted."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one request, all of one version."""

    version: int
    """Of the weights."""
    variant: str
    """The user's arm (`serving.arms`); `live` in none."""
    task: str
    """Whose label the probabilities are of."""
    cohort: str
    """The user's, by earlier impressions (`monitor.user_impressions`)."""
    degraded: bool
    """Whether Redis did not tell the state: then everybody is taken for new."""
    missing: Missing
    canary: bool = False
    """Whether the user is in the canary share, and got the newest weights."""
    other_version: int = 0
    """Of the weights that scored along: the stable ones for a canary user, those of a mirrored arm; 0: none did."""
    scores: list[Scored]
    """As asked; of `/v1/rank` best first."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a user or an item."""

    counts: dict[str, int]
    norm: float
    """L2 norm of its embedding, as the learner wrote it."""
    norm_version: int
    """Version of the weights that the norm is of."""
    norm_versions_behind: int
    first_age_s: float | None = None
    last_age_s: float | None = None
    """Since the user's first and last counted impression, by event time; None if there was none, and for items."""


class Share(msgspec.Struct, frozen=True):
    """A part of the logit."""

    part: str
    component: float
    weight: float
    """What the state makes of it; the logit is the sum of components times weights."""
    adds: float


class Alike(msgspec.Struct, frozen=True):
    """An item that another one is served by."""

    item: str
    similarity: float
    """Cosine of what is compared of their content."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a score came about."""

    version: int
    weights_age_s: float
    degraded: bool
    cohort: str
    probability: float
    rank: float
    logit: float
    parts: list[Share]
    user: Known
    item: Known
    missing: Missing
    content_made: bool = False
    """Whether the item has learned nothing itself and is served by what its content says (`content_start`)."""
    alike: list[Alike] = []
    """The items that it is served by, most similar first; none if it is by the mean of a category, or of all."""
    user_made: bool = False
    """Whether the user has learned nothing itself and is served by what attributes and context say (`user_start`)."""


class ShownAnswer(msgspec.Struct, frozen=True):
    """What became of impressions."""

    written: int
    unknown: list[str]
    """Ids that are not remembered: not of this scorer, or too long ago."""


class WeightsInUse(msgspec.Struct, frozen=True, kw_only=True):
    """The weights in use."""

    version: int
    epoch: int
    base_version: int
    num_deltas: int
    created_ms: int
    loaded_ms: int
    age_s: float
    num_samples: int
    learned_ts: int
    metrics: dict[str, float]
    swaps: int
    refused: str
    """Why the version that should be in use is not; empty if it is."""
    pinned: int
    """Version that scorers are told to serve; 0: the newest."""
    why_pinned: str


Reason = Annotated[str, Meta(min_length=1, max_length=1000)]


class RolloutAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be decided about weights; what is left out stays."""

    pinned: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    """Kept version to serve to all; 0: the newest again."""
    hold: Annotated[str, Meta(max_length=1000)] | None = None
    """Why no weights are to be published; empty: they are again."""
    why: Reason
    by: Reason = "http"
    """Who decides."""
    revision: int | None = None
    """That was read; at another one it is refused."""


class RollbackAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An earlier version is to be served."""

    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Which; 0: the stable one, or without such the newest kept one before that in use."""
    why: Reason
    by: Reason = "http"


class ArmNow(msgspec.Struct, frozen=True):
    """An arm."""

    name: str
    percent: float
    mirror: bool
    version: int
    """Of its weights; 0: it has none, and its users are served as if there were no such arm."""


class RolloutNow(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about weights."""

    revision: int
    pinned: int
    """Version that all are served; 0: none."""
    stable: int
    """Version that did no harm, for all but the canary share; 0: none yet."""
    candidate: int
    """The next one, if the newer ones do no harm; 0: none yet."""
    hold: str
    """Why no weights are published; empty: they are."""
    decisions: list[Decision]
    """Newest last."""
    canary_share: float
    arms: list[ArmNow]


class Failed(msgspec.Struct, frozen=True):
    """Why a request is not answered."""

    error: str


def as_candidates(asked: list[Id | Item]) -> list[Candidate]:
    """Candidates in the form in which they are scored."""
    return [Candidate(one) if isinstance(one, str) else Candidate(one.item, one.features) for one in asked]
