"""Every Redis key of the pipeline.

Keys of one partition carry the hash tag `{p<partition>}`, so that one call touches one Redis Cluster slot. Keys of the
weights share the tag `{w}`.
"""


class Keys:
    """Names keys below one prefix.

    >>> Keys("cs").fence(3)
    'cs:{p3}:fence'
    >>> Keys("cs").user(3, "u42")
    'cs:{p3}:u:u42'
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def _of(self, partition: int, name: str) -> str:
        return f"{self.prefix}:{{p{partition}}}:{name}"

    def fence(self, partition: int) -> str:
        """Hash: offsets applied, epoch, watermark, outbox sequence, counters of the join, numbers of the roll-ups."""
        return self._of(partition, "fence")

    def bodies(self, partition: int) -> str:
        """Hash: impression id -> what its samples carry, until the end of its attribution window."""
        return self._of(partition, "bodies")

    def labels(self, partition: int) -> str:
        """Hash: impression id -> what has come for it and has been told, unless nothing."""
        return self._of(partition, "labels")

    def arrivals(self, partition: int) -> str:
        """Hash: number of a call -> the impressions that it brought, by event time, and which deadlines they passed."""
        return self._of(partition, "arrivals")

    def pending(self, partition: int) -> str:
        """Hash: impression id -> body and labels of one that the version before held."""
        return self._of(partition, "pending")

    def waiting(self, partition: int) -> str:
        """Hash: impression id -> feedback that came before its impression."""
        return self._of(partition, "waiting")

    def due(self, partition: int) -> str:
        """Sorted set: event times at which arrivals and waiting feedback are due next."""
        return self._of(partition, "due")

    def outbox(self, partition: int) -> str:
        """Stream: joined samples for the learner; an entry's id is the sequence number of its last sample."""
        return self._of(partition, "outbox")

    def dirty(self, partition: int) -> str:
        """Set: items whose sub-counters changed since the last roll-up."""
        return self._of(partition, "dirty")

    def rolling(self, partition: int) -> str:
        """Set: items that a roll-up has taken and not brought to all other partitions yet."""
        return self._of(partition, "rolling")

    def dead(self, partition: int) -> str:
        """Stream: events that the join gave up on, for the dead-letter topic."""
        return self._of(partition, "dead")

    def learned(self, partition: int) -> str:
        """String: sequence number of the last sample the learner trained on."""
        return self._of(partition, "learned")

    def owner(self, partition: int) -> str:
        """String: number of the learner that may report and trim; the greater one is the newer."""
        return self._of(partition, "owner")

    def probe(self, partition: int) -> str:
        """String, for a second: whether Redis takes writes."""
        return self._of(partition, "probe")

    def user(self, partition: int, user_id: str) -> str:
        """Hash: one user's counters, first and last event time, embedding norm."""
        return self._of(partition, f"u:{user_id}")

    def item(self, partition: int, item_id: str) -> str:
        """Hash: one item's counters in this partition, sums over the others, embedding norm."""
        return self._of(partition, f"i:{item_id}")

    @property
    def pipeline_id(self) -> str:
        """String: the name by which this pipeline's workers know each other in their consumer group."""
        return f"{self.prefix}:id"

    @property
    def log_ids(self) -> str:
        """Hash: topic -> id that the broker gave the log whose offsets the fences hold."""
        return f"{self.prefix}:log"

    @property
    def manifest(self) -> str:
        """String: the weights in force."""
        return f"{self.prefix}:{{w}}:manifest"

    def blob(self, name: str) -> str:
        """String: a chunk of weights, or a list of chunks."""
        return f"{self.prefix}:{{w}}:blob:{name}"

    @property
    def chunks(self) -> str:
        """Set: names of the chunks in Redis that stay until they are retired."""
        return f"{self.prefix}:{{w}}:chunks"

    @property
    def codebooks(self) -> str:
        """Hash: digest of the frozen codebooks, and what encodes by them."""
        return f"{self.prefix}:{{w}}:codebooks"

    @property
    def weights_epoch(self) -> str:
        """Integer: owners the weights have had."""
        return f"{self.prefix}:{{w}}:epoch"

    @property
    def weights_channel(self) -> str:
        """Channel on which each new manifest is announced."""
        return f"{self.prefix}:{{w}}:news"

    @property
    def kept_weights(self) -> str:
        """String: full versions whose blobs stay (JSON)."""
        return f"{self.prefix}:{{w}}:kept"

    @property
    def rollout(self) -> str:
        """String: which weights are to be served, whether more are published, and what was decided (JSON)."""
        return f"{self.prefix}:{{w}}:rollout"

    @property
    def learner_status(self) -> str:
        """String: the learner's newest progress report (JSON)."""
        return f"{self.prefix}:learner:status"

    @property
    def learner_owner(self) -> str:
        """String, as long as it lasts: who is the learner (JSON)."""
        return f"{self.prefix}:learner:owner"

    @property
    def monitor_runs(self) -> str:
        """Sorted set: names of the learner runs that have a history, oldest first."""
        return f"{self.prefix}:monitor:runs"

    def monitor_history(self, run: str, series: str) -> str:
        """Hash: checkpoint number -> buckets of one series (cohorts, twin) of one learner run."""
        return f"{self.prefix}:monitor:{series}:{run}"

    def monitor_feed(self, run: str) -> str:
        """Hash: checkpoint number -> samples for the frozen twin."""
        return f"{self.prefix}:monitor:feed:{run}"

    @property
    def monitor_pins(self) -> str:
        """String: the weights that the frozen twin keeps from being retired (JSON)."""
        return f"{self.prefix}:monitor:pins"

    @property
    def worker_status(self) -> str:
        """Hash: worker name -> its newest progress report (JSON)."""
        return f"{self.prefix}:worker:status"
