"""Settings of the state store: where Redis is, how long state lives, how labels are joined."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from state_store.address.redis_url import check_redis_url

MAX_MS = 315_360_000_000
"""Ten years: no span of time is longer."""
PositiveInt = Annotated[int, Meta(gt=0, le=1_000_000_000)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Milliseconds = Annotated[int, Meta(gt=0, le=MAX_MS)]
Seconds = Annotated[int, Meta(gt=0, le=MAX_MS // 1000)]
FilePath = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f]*\Z")]
Action = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,256}\Z")]


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the state is kept and how it ages."""

    url: Annotated[str, Meta(extra={"secret": "password of a URL"})] = ""
    """`redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix://path`; any node of a cluster; empty: an
    embedded server. Of options behind `?` it takes `db`, `username`, `password`, `client_name`, and with TLS
    `ssl_cert_reqs` and `ssl_check_hostname`."""
    ca_file: FilePath = ""
    """PEM file of the authority that signed the server's certificate; empty: the system's."""
    cert_file: FilePath = ""
    """PEM file of a client certificate, where the server asks for one."""
    key_file: FilePath = ""
    prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,200}\Z")] = "cs"
    """First part of every key, so that several pipelines can share one Redis."""
    user_ttl_s: Seconds = 180 * 86_400
    """A user unseen for this long (wall clock) is forgotten, or up to a sixteenth later."""
    item_ttl_s: Seconds = 180 * 86_400
    """An item unseen for this long (wall clock) is forgotten, or up to a sixteenth later."""
    timeout_s: Annotated[float, Meta(ge=0.001, le=3600)] = 5.0
    """Longest wait for one answer from Redis."""

    def __post_init__(self) -> None:
        if self.url:
            check_redis_url(self.url)
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        given = [f"redis.{name}" for name, value in files.items() if value]
        if given and not self.url.startswith("rediss://"):
            raise ValueError(f"{' and '.join(given)} given, but redis.url does not begin with rediss://")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("redis.cert_file and redis.key_file belong together; give both or none")


class JoinSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label join, in event time. `lateness_ms <= window_ms <= attribution_ms`."""

    mode: Literal["window", "immediate"] = "window"
    """`window`: an impression waits for its label. `immediate`: it is a negative at once, and positive feedback emits a
    correction; choose a loss for that by `learner.delayed_feedback`."""
    window_ms: Milliseconds = 120_000
    """An impression without positive feedback for this long becomes a negative sample."""
    settle_ms: Annotated[int, Meta(ge=0, le=MAX_MS)] = 300_000
    """A negative for which nothing has come for this long, or for `attribution_ms`, is settled: till then it may turn,
    and the learner believes it only so far. That lets a short window be unbiased. 0, or no more than the window: every
    negative is believed at once, and taken back if it turns. Not in mode `immediate`. Minutes, and not hours: what the
    model learns in between is learned on top of what it believed."""
    attribution_ms: Milliseconds = 3_600_000
    """Feedback up to this long after its impression counts; past the window it emits a correction."""
    lateness_ms: Milliseconds = 60_000
    """How far out of order a topic may be; what lies further behind is late and goes to the dead letters."""
    early_positives: bool = False
    """Emit a positive when its feedback arrives, not when the window closes. Samples then leave in an order that their
    labels decide, and the learner follows it: AUC falls from .747 to .691 on MovieLens-1M's first 200,000 events."""
    as_served: bool = True
    """Hand each impression to the learner when it passes, too, so that it is known what would have been predicted for
    it then, with what had been learned by then (`served_auc` beside `auc`). In mode `immediate` that is so anyway."""
    time_users: Annotated[int, Meta(ge=1, le=32)] = 5
    """Users (n) that must agree on event time: it is what n of the 2n - 1 users who came newest have reached, so that
    no single device's clock moves it. 1: every record moves it; right where one server stamps all events."""
    negative_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the negatives that are learned from; the others are counted and dropped. The learner corrects its
    logits for it, so predictions stay those of the whole stream (Monolith, section 2)."""
    negative_rate_from: NonNegativeInt = 0
    """Users with fewer earlier impressions keep all their negatives: of cold users every label counts."""
    release_limit: Annotated[int, Meta(gt=0, le=1 << 20)] = 4096
    """Most deadlines handled in one call; the caller asks again for the rest."""

    def __post_init__(self) -> None:
        if not self.lateness_ms <= self.window_ms <= self.attribution_ms:
            raise ValueError(
                "join: lateness_ms <= window_ms <= attribution_ms must hold, got "
                f"{self.lateness_ms}, {self.window_ms}, {self.attribution_ms}"
            )


class ActionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which feedback is counted, and which of it is a positive label."""

    names: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=8)] = ("like",)
    """Actions that feedback events may carry; each has its own counter per user and item."""
    positive: tuple[Action, ...] = ()
    """Actions that make the label 1, where no `[[tasks]]` are declared; empty: the first of `names`."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.positive) - set(self.names))
        if unknown:
            raise ValueError(f"actions.positive names {unknown}, which actions.names {list(self.names)} lacks")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"actions.names repeats a name: {list(self.names)}")

    @property
    def counted(self) -> tuple[str, ...]:
        """What users and items are counted for, in the order of their counters."""
        return ("impressions", *self.names)
