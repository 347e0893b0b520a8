"""Samples of a small world as records and as columns, for tests of what is made of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from support.columns import columns

from learner.config import FieldSettings
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from learner.samples.layout import FeatureValue

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("price", "item", "numeric"),
)
HOUR_MS = 3_600_000


def make_records(count: int, seed: int = 0, *, num_users: int = 30) -> list[Sample]:
    """Some users like more, some items are better, so there is something to learn."""
    rng = np.random.default_rng(seed)
    mildness, quality = rng.normal(size=num_users), rng.normal(size=40)
    out = []
    for n in range(count):
        u, i = int(rng.integers(num_users)), int(rng.integers(40))
        label = int(mildness[u] + quality[i] + 0.3 * rng.normal() > 0)
        features: list[FeatureValue] = [str(u % 5), [f"g{i % 7}", "g"], float(i)]
        core = Core(f"{seed}-{n}", f"u{u}", f"i{i}", 1_000_000 + n * 1000, 0, features)
        state = State([n // num_users, n % 3], 0.1 * (n % 5), 1, 0, [n // 40, n % 2], 0.2, 1)
        out.append(Sample(SampleKind(label), label, 5, core, state))
    return out


def changed(record: Sample, **changes: Any) -> Sample:
    """The record with other values, wherever in it they are."""
    parts = {}
    for name, of in (("core", Core), ("state", State)):
        its = {key: changes.pop(key) for key in of.__struct_fields__ if key in changes}
        parts[name] = msgspec.structs.replace(getattr(record, name), **its)
    return msgspec.structs.replace(record, **parts, **changes)


def to_samples(records: Sequence[Sample], fields: Sequence[FieldSettings] = FIELDS) -> Samples:
    """As columns."""
    return columns(records, fields)
