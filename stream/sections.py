"""The sections of the settings that belong to the stream; those of the learner and of the state store lie with them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import Values
from state_store.config import MAX_MS, FilePath, JoinSettings
from stream.addresses import kafka_servers
from stream.arms.settings import ArmSettings, check_arms

PositiveInt = Annotated[int, Meta(gt=0, le=1_000_000_000)]
PositiveFloat = Annotated[float, Meta(gt=0, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0.001, le=MAX_MS // 1000)]
TopicName = Annotated[str, Meta(pattern=r"\A(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z")]
HostName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,255}\Z")]
Edges = Annotated[tuple[PositiveInt, ...], Meta(min_length=1, max_length=12)]


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker and its topics."""

    url: str = ""
    """`host:port[,host:port]`, as `kafka_servers` reads it; empty: an embedded broker, in memory."""
    impressions: TopicName = "impressions"
    feedback: TopicName = "feedback"
    dead_letter: TopicName = "dead-letter"
    weights: TopicName = "weights"
    partitions: Annotated[int, Meta(gt=0, le=100_000)] = 4
    """Of impressions and feedback alike; fixed once the topics exist."""
    replication: Annotated[int, Meta(gt=0, le=32_767)] = 1
    group: Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,249}\Z")] = "coldstream"
    """First part of the workers' consumer group; the other is `redis.prefix`, as in `coldstream.cs`. So pipelines with
    prefixes of their own never share a group."""
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """Whether records of transactions are read once they are committed, or as they are written, those of aborted
    transactions included."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """Of what is written here: by a replay, and by workers (dead letters, announcements). Any codec can be read."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: Annotated[str, Meta(extra={"secret": "whole"})] = ""
    """Best given as `COLDSTREAM_KAFKA__PASSWORD`."""
    ca_file: FilePath = ""
    """PEM file of the authority that signed the brokers' certificates; empty: the system's."""
    cert_file: FilePath = ""
    """PEM file of a client certificate, where the brokers ask for one."""
    key_file: FilePath = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "url", kafka_servers(self.url, self.security))
        names = {name: getattr(self, name) for name in ("impressions", "feedback", "dead_letter", "weights")}
        if len(set(names.values())) < len(names):
            said = ", ".join(f"kafka.{name} {topic!r}" for name, topic in names.items())
            raise ValueError(f"the pipeline's four topics must differ, got {said}; give each a name of its own")
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        given = [f"kafka.{name}" for name, value in files.items() if value]
        if given and not self.security.endswith("SSL"):
            raise ValueError(f"{' and '.join(given)} given, but kafka.security is {self.security}; set SSL or SASL_SSL")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("kafka.cert_file and kafka.key_file belong together; give both or none")
        if self.security.startswith("SASL") and not (self.username and self.password):
            raise ValueError(f"kafka.security is {self.security}, so kafka.username and kafka.password must be given")


class EventSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what counts as an event."""

    min_ts_ms: Annotated[int, Meta(ge=0, le=1 << 53)] = 631_152_000_000
    """Earlier event times (default: before 1990) are malformed."""
    max_ahead_ms: Annotated[int, Meta(gt=0, le=MAX_MS)] = 86_400_000
    """So are event times this far ahead of the wall clock."""
    misplaced: Literal["count", "reroute", "refuse"] = "count"
    """What becomes of a record that lies in another partition than its user's, who is counted in one partition only.
    `count`: it is applied where it lies, and told. `reroute`: it is written to where it belongs. `refuse`: it is a dead
    letter."""


JoinedBy = Literal["compiled", "script"]


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Faust worker."""

    consumer: Literal["coalescing", "plain"] = "coalescing"
    """How records reach the worker: in batches made before Faust sees them, or one by one through Faust's documented
    `take_events`, which is some 25 times slower."""
    batch: Annotated[int, Meta(gt=0, le=4096)] = 2048
    """Most records in one call to Redis."""
    join: JoinedBy = "compiled"
    """Where impressions meet their feedback: `compiled`, in the worker's memory, with what changes written to Redis; or
    `script`, in Redis, which takes longer and needs no memory here. State and samples are the same to the byte, and
    either goes on where the other has ended."""
    join_memory_mb: Annotated[int, Meta(gt=0, le=1 << 20)] = 512
    """Of `join = "compiled"`: about how much of what its partitions hold a worker keeps in memory; what it has not, it
    reads from Redis again when it needs it."""
    outbox_high_water: PositiveInt = 60_000
    """Samples in one partition's outbox at which the worker waits for the learner; an impression makes two or three."""
    idle_after_ms: Annotated[int, Meta(ge=0, le=MAX_MS)] = 10_000
    """A topic read to its end for this long no longer holds the watermark back, if its events are live; 0: never."""
    stalled_after_s: Seconds = 120.0
    """A worker with records to read whose fences have not moved for this long ends itself, to be started anew."""
    session_timeout_s: Annotated[float, Meta(ge=1, le=60)] = 6.0
    """A worker of which the broker has heard nothing for this long counts as gone: the others take its partitions over.
    Apache Kafka allows less than 6 s only where its `group.min.session.timeout.ms` does."""
    roll_up_s: Seconds = 1.0
    """How often item counts are exchanged between partitions, unless they just were for the number of records."""
    roll_up_records: PositiveInt = 50_000
    """And at the latest after so many records that a worker applied."""


class PublishSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights and checkpoints."""

    interval_s: Seconds = 2.0
    """Weights are published this often, whether or not samples came."""
    interval_samples: PositiveInt = 50_000
    """And at the latest after so many samples learned, however fast they come."""
    norms_samples: PositiveInt = 50_000
    """Embedding norms go back into the state with each publish, and between them after so many samples learned. The
    model itself reads norms from its own tables; these are for whoever reads the state."""
    full_every: PositiveInt = 20
    """Every n-th version is a full snapshot; those between carry touched rows only. A scorer that follows loads touched
    rows only, one that starts loads the last full snapshot and the touched rows since. Of a full one, chunks that have
    not changed since the one before are not written again."""
    values: Values = "float32"
    """What the values of tables are rounded to in what is published: `float16` and `bfloat16` take some 40 %
    off its bytes, and nothing off a scorer's memory. The learner itself is not rounded."""
    store: Annotated[str, Meta(pattern=r"\A(redis|(file:///|s3://|memory://)[A-Za-z0-9._/-]+)\Z")] = "redis"
    """Where full snapshots lie: `redis`, or a folder in files or an object store that learner, scorers and monitor
    reach: `file:///PATH`, `s3://BUCKET/FOLDER` (`pip install 'coldstream[s3]'`; keys and endpoint as AWS' tools take
    them: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...). Touched rows and what is in force stay in Redis."""
    retired_s: Annotated[int, Meta(gt=0, le=MAX_MS // 1000)] = 600
    """How long chunks stay that no version names any more: longer than a scorer takes to load a full snapshot."""
    keep_versions: Annotated[int, Meta(gt=0, le=1000)] = 5
    """Full versions kept, to pin and to go back to; the pinned one is kept besides. Each is a full snapshot in Redis
    (`coldstream weights list` says how large), and the checkpoint before it in the run folder."""
    keep_every_s: Annotated[float, Meta(ge=0, le=MAX_MS // 1000)] = 300.0
    """How far kept versions lie apart, but for the newest; 0: every full version is kept in its turn."""
    keep_samples: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Learned samples kept in each partition's outbox, some 300 bytes each, so that a learner that goes back can learn
    them again; what lies behind is not learned again, and counted. 0: it goes on with what comes next, which is right
    where it was the samples that were bad."""
    max_log_loss_rise: PositiveFloat = 0.25
    """No publish while the recent log-loss exceeds that of the last publish by more than this."""
    hold_on_drift_s: Annotated[float, Meta(ge=0, le=MAX_MS // 1000)] = 0.0
    """No publish for so long after a drift alarm of all samples; 0: drift holds nothing back. Drift says that the world
    has changed: the older weights are then the worse ones, unless it is the labels that are wrong."""
    checkpoint_s: Seconds = 10.0
    """How often the learner writes a checkpoint; the outbox is trimmed behind it."""
    checkpoint_samples: PositiveInt = 50_000
    """And at the latest after so many samples learned, if the one before is written: what a checkpoint costs depends on
    how much has changed, and a worker waits for a learner that has not trimmed (`worker.outbox_high_water`)."""
    second: Literal["wait", "refuse"] = "wait"
    """What a learner does that finds another one at work, in its run folder or under `redis.prefix`: `wait` until that
    one ends, and go on where it was, as in a rolling restart; or `refuse`, and end."""
    keep_prediction_files: PositiveInt = 20_000
    """Files of the prediction log kept; one is written with each checkpoint."""


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
    nth_impressions: Annotated[int, Meta(gt=0, le=10_000)] = 50
    """Length of the curve by n-th impression."""
    bucket_s: Seconds = 2.0
    """Wall-clock length of the finest bucket."""
    max_buckets: Annotated[int, Meta(ge=40, le=100_000)] = 800
    """Buckets kept per learner run; beyond, the older half is merged pairwise, so what is older is coarser. A bucket is
    some 7 KB in Redis, and the frozen twin has as many again."""
    max_runs: Annotated[int, Meta(gt=0, le=10_000)] = 10
    """Learner runs whose history is kept."""
    window_s: Seconds = 300.0
    """Length of the window that "now" means, wall clock."""
    drift_block: PositiveInt = 2000
    """Samples of a cohort that give the drift detectors one value."""
    drift_threshold: PositiveFloat = 0.3
    """Page-Hinkley's lambda: by how much a cohort's NE against popularity, or the logarithm of its calibration, must
    have moved, summed over blocks."""
    drift_tolerance: PositiveFloat = 0.03
    """Page-Hinkley's delta: a change of this size in a block is none."""
    skew_limit: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Of what a scorer served: an alarm is raised if it is off from what the learner itself predicts, right before it
    learns the label, by more than this on average over `drift_block` impressions."""
    half_life: PositiveInt = 20_000
    """Samples of a cohort after which a sample counts half in its fading figures."""
    twin_share: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Share of the users whose impressions the frozen twin scores, too; 0: there is no twin. More where users are few:
    its figures are as sure as the number of its users lets them be."""
    twin_age_h: PositiveFloat = 24.0
    """Least age of the frozen twin's weights, hours of event time; it takes younger ones once they are that old. Those
    that are on their way to it, up to six snapshots, stay in Redis."""
    host: HostName = "127.0.0.1"
    """Address the page binds to; loopback unless told otherwise, as without `token` it asks nobody who they are."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8900
    hosts: Annotated[tuple[HostName, ...], Meta(max_length=64)] = ()
    """Names by which it is asked for, beside its own, as behind a proxy: requests for other names are refused."""
    token: Annotated[str, Meta(pattern=r"\A[\x21-\x7e]*\Z", extra={"secret": "whole"})] = ""
    """Who asks for figures must have it (`Authorization: Bearer TOKEN`; the page: `#token=TOKEN`); empty: anybody."""

    def __post_init__(self) -> None:
        for name in ("user_impressions", "item_impressions", "account_days"):
            edges = getattr(self, name)
            if list(edges) != sorted(set(edges)):
                raise ValueError(f"monitor.{name} must ascend without repeats, got {list(edges)}")


class ServingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP scorer (`coldstream serve`)."""

    enabled: bool = True
    """Whether `coldstream up` and `coldstream demo` start it, too."""
    host: HostName = "127.0.0.1"
    """Address it binds to; loopback unless told otherwise, as without `token` it asks nobody who they are."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8901
    token: Annotated[str, Meta(pattern=r"\A[\x21-\x7e]*\Z", extra={"secret": "whole"})] = ""
    """Who asks must have it (`Authorization: Bearer TOKEN`); empty: anybody. Whether it is alive and ready anybody may
    ask."""
    workers: Annotated[int, Meta(gt=0, le=256)] = 1
    """Processes that answer on the port. More than one share one copy of the weights, which one more process loads."""
    refresh_s: Seconds = 0.25
    """How often it looks for newer weights."""
    max_weights_age_s: Annotated[float, Meta(ge=0, le=MAX_MS // 1000)] = 300.0
    """Weights published longer ago than this make it not ready (it answers all the same); 0: any age will do."""
    max_body_bytes: Annotated[int, Meta(gt=0, le=1 << 28)] = 4 << 20
    """A longer request is refused (413)."""
    max_candidates: Annotated[int, Meta(gt=0, le=100_000)] = 1000
    """A request of more candidates is refused (413)."""
    max_concurrent: Annotated[int, Meta(gt=0, le=100_000)] = 128
    """Requests answered at the same time; one more is told to come again (503 with Retry-After)."""
    timeout_s: Seconds = 2.0
    """A request that takes longer is told to come again (503 with Retry-After)."""
    state_timeout_s: Seconds = 0.2
    """If Redis has not told the state by then, it is scored from the weights alone, and the answer says `degraded`."""
    log: bool = False
    """Whether impressions that it is told were shown (`POST /v1/shown`), and answers of `/v1/rank` that ask for it, are
    written to `kafka.impressions`."""
    remember: PositiveInt = 200_000
    """Candidates scored last that can still be named as shown; about a kilobyte each. Nothing is remembered without
    `log`."""
    cert_file: FilePath = ""
    """PEM file of the server's certificate and chain; with it the scorer speaks TLS only."""
    key_file: FilePath = ""
    salt: Annotated[str, Meta(max_length=256)] = "coldstream"
    """Of the hash that puts users in arms and in the canary share; another one draws them anew."""
    canary_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the users outside arms that get the newest weights at once; the others get the newest that have done no
    harm. 0: everybody gets the newest. It holds the tables of a second version, and those users are scored twice."""
    canary_alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    """Probability, at most, with which weights that do no harm are taken back, from one promotion to the next."""
    canary_outcomes: PositiveInt = 1000
    """Outcomes of canary users without harm after which a version is for everybody, unless they speak for harm without
    showing it: then more are waited for. Those of one user in one block of the learner count once."""
    canary_tolerance: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """Harm is a mean log-loss above that of the version served to the others by more than this, nats."""
    canary_calibration: Annotated[float, Meta(gt=0, le=0.5)] = 0.02
    """So is a mean prediction that is by more than this above (or below) both what came and what that version said."""
    canary_slower: Annotated[float, Meta(ge=1.1, le=1000)] = 2.0
    """And weights that take more than so many times as long for most requests."""
    arms: Annotated[tuple[ArmSettings, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        check_arms(self.arms)
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("serving.cert_file and serving.key_file belong together; give both or none")

    def check(self, join: JoinSettings) -> None:
        """Whether outcomes come as the canary's judge has to have them: all of a time at once, whatever they are.

        Raises:
            ValueError: they do not.
        """
        biased = join.mode != "window" or join.early_positives or join.negative_rate < 1
        if self.canary_share and biased:
            raise ValueError(
                f"serving.canary_share is {self.canary_share}, and labels would mislead its judge: they need join.mode "
                f"'window' (it is {join.mode!r}), join.early_positives false ({join.early_positives}) and "
                f"join.negative_rate 1 ({join.negative_rate})"
            )


def interval_names(edges: tuple[int, ...]) -> list[str]:
    """Names of the intervals between edges, from 0.

    >>> interval_names((1, 5, 200))
    ['0', '1-4', '5-199', '200+']
    """
    lows = (0, *edges)
    names = [str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in zip(lows, edges, strict=False)]
    return [*names, f"{edges[-1]}+"]
