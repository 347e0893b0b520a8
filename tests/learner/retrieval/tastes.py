"""Users and items of two kinds, who like their own: a log on which every two-tower model must find something."""

import numpy as np

from learner.config import FieldSettings
from learner.retrieval.entities import Entities, entities_of
from learner.retrieval.interactions import Interactions
from learner.retrieval.offline import SplitData

USERS, ITEMS = 40, 60
USER_FIELDS = FieldSettings("user_id", "user", "id"), FieldSettings("kind", "user", "categorical")
ITEM_FIELDS = (
    FieldSettings("item_id", "item", "id"),
    FieldSettings("tags", "item", "multi"),
    FieldSettings("length", "item", "numeric"),
)


def entities() -> tuple[Entities, Entities]:
    users = entities_of(USER_FIELDS, [[f"u{u}", str(u % 4) if u % 5 else None] for u in range(USERS)])
    items = entities_of(ITEM_FIELDS, [[f"i{i}", [f"t{i % 4}", "any"], float(i % 3)] for i in range(ITEMS)])
    return users, items


def interactions(num: int, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(USERS * ITEMS)[:num]
    users, items = pairs // ITEMS, pairs % ITEMS
    labels = (rng.random(num) < np.where(users % 4 == items % 4, 0.9, 0.1)).astype(np.int64)
    return Interactions(users, items, labels, np.sort(rng.integers(0, 40 * 3_600_000, num)))


def split(seed: int = 0) -> SplitData:
    parts = np.split(np.random.default_rng(seed).permutation(2000), [1200, 1600])
    return SplitData(*entities(), interactions(2000, seed), *parts)
