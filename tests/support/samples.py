"""Samples in the outbox without a worker, and a learner's run over them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import redis
from support.columns import columns
from support.former import as_version_1

from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from learner.samples.layout import FeatureValue
from state_store.keys import Keys
from stream.predictions.log import read_predictions
from stream.process.status import LearnerStatus, read_status
from stream.settings import Settings

_ENTRY = 20
FEATURES = ("F", "25", "3", ["a", "b"], "1990", ["x"], "1990s")
"""Of one impression, as the fields of MovieLens say."""


def make_samples(count: int, seed: int, first: int = 0, features: Sequence[FeatureValue] = FEATURES) -> list[Sample]:
    """Samples of users and items that come again, under impression ids of their own.

    Args:
        count: so many.
        seed: of what they say.
        first: number of the first one's impression.
        features: of each impression.
    """
    rng = np.random.default_rng(seed)
    out = []
    for n in range(first, first + count):
        user, item, label = f"u{rng.integers(40)}", f"i{rng.integers(60)}", int(rng.random() < 0.5)
        core = Core(f"{seed}-{n}", user, item, 1_700_000_000_000 + n, 0, list(features))
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    return out


class Samples:
    """Puts samples into partition 0's outbox, as the join does.

    Args:
        client: Redis.
        settings: effective settings.
        features: of each impression.
    """

    def __init__(self, client: redis.Redis, settings: Settings, features: Sequence[FeatureValue] = FEATURES) -> None:
        self.client, self.settings, self.features = client, settings, features
        self.keys = Keys(settings.redis.prefix)
        self.num = 0

    def put(self, count: int, *, former: bool = False, version_1: bool = False) -> None:
        """So many more.

        Args:
            count: samples.
            former: in the form in which a former version's worker left them.
            version_1: as columns of the layout's first version.
        """
        for sample in range(0, count, _ENTRY):
            several = make_samples(min(_ENTRY, count - sample), seed=7, first=self.num, features=self.features)
            self.num += len(several)
            columned = columns(several, self.settings.fields, self.settings.actions.names)
            todays = as_version_1(columned) if version_1 else columned.encode()
            entry = {"s": msgspec.msgpack.encode(several) if former else todays}
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
