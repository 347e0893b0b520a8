"""Samples in the outbox without a worker, and a learner's run over them."""

from pathlib import Path

import msgspec
import numpy as np
import redis

from learner.sample import Core, Sample, SampleKind, State
from state_store.keys import Keys
from stream.prediction_log import read_predictions
from stream.process.status import LearnerStatus, read_status
from stream.settings import Settings

_ENTRY = 20


def make_samples(count: int, seed: int, first: int = 0) -> list[Sample]:
    """Samples of users and items that come again, under impression ids of their own."""
    rng = np.random.default_rng(seed)
    out = []
    for n in range(first, first + count):
        user, item, label = f"u{rng.integers(40)}", f"i{rng.integers(60)}", int(rng.random() < 0.5)
        core = Core(f"{seed}-{n}", user, item, 1_700_000_000_000 + n, 0, ["F", "25", "3", ["a", "b"], "1990", ["x"]])
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    return out


class Samples:
    """Puts samples into partition 0's outbox, as the join does.

    Args:
        client: Redis.
        settings: effective settings.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.keys = Keys(settings.redis.prefix)
        self.num = 0

    def put(self, count: int) -> None:
        """So many more."""
        for sample in range(0, count, _ENTRY):
            several = make_samples(min(_ENTRY, count - sample), seed=7, first=self.num)
            self.num += len(several)
            entry = {"s": msgspec.msgpack.encode(several)}
            self.client.xadd(self.keys.outbox(0), entry, f"{self.num}-0")
        self.client.hset(self.keys.fence(0), "seq", self.num)

    def learned(self) -> int:
        """How far training was reported."""
        return int(self.client.get(self.keys.learned(0)) or 0)

    def waiting(self) -> int:
        """Entries in the outbox."""
        return int(self.client.xlen(self.keys.outbox(0)))

    def status(self) -> LearnerStatus:
        """The learner's newest report."""
        found = read_status(self.client, self.settings.redis.prefix)
        assert found is not None
        return found

    def version(self) -> int:
        """Of the newest weights; 0 before there are any."""
        found = read_status(self.client, self.settings.redis.prefix)
        return found.version if found is not None else 0

    def check_log(self, folder: Path) -> None:
        """Each sample was learned once."""
        log = read_predictions(folder / "predictions")
        assert (len(log), log["imp_id"].n_unique()) == (self.num, self.num)
        assert sorted(log["sequence"].to_list()) == list(range(1, self.num + 1))
