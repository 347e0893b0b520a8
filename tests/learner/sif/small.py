"""A few fields, and samples of them."""

import numpy as np

from learner.config import FieldSettings, SifSettings
from learner.samples.asked import samples_of as asked
from learner.samples.columns import Samples, concatenate
from learner.samples.layout import Layout

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("age", "user", "numeric"),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("year", "item", "categorical"),
)
SETTINGS = SifSettings(
    fields_per_token=2, crosses=(("user_id", "genres"),), buckets=256, levels=2, code_bits=4, freeze_samples=100
)
SLOTS = [[0, 1], [2, 3], [4], [5, 6], [7]]


def samples_of(count: int, seed: int = 0) -> Samples:
    rng, layout, found = np.random.default_rng(seed), Layout(FIELDS, ("like",)), []
    for _ in range(count):
        ts = int(rng.integers(10**12, 10**12 + 10**9))
        genres = [f"g{g}" for g in rng.choice(5, rng.integers(0, 4), replace=False)]
        numbers = [float(rng.integers(1, 90))] if rng.random() < 0.8 else [None]
        columns = [numbers, [genres], [f"{rng.integers(3)}" if rng.random() < 0.7 else None]]
        item = [f"i{rng.integers(20)}"]
        found.append(asked(layout, ts, f"u{rng.integers(9)}", item, columns))  # type: ignore[arg-type]
    return concatenate(found)
