"""Outcomes of what was served, with late labels among them, and a meter that is told of them."""

import numpy as np

from learner.samples.keys import arm_key
from stream.monitor.figures.bucket import Bucket
from stream.monitor.served.meter import ServedMeter
from stream.served import ServedOutcomes

NUM = 6000
_DAY_MS = 86_400_000


def drawn(seed: int = 3) -> tuple[ServedOutcomes, np.ndarray]:
    """Outcomes with their final labels, and which of them were negatives at first."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(2, 5, NUM)
    label = rng.random(NUM) < probability
    outcomes = ServedOutcomes(
        users_N=rng.integers(1, 2**63, 300).astype(np.uint64)[rng.integers(300, size=NUM)],
        user_impressions_N=rng.integers(0, 300, NUM).astype(np.int32),
        item_impressions_N=rng.integers(0, 300, NUM).astype(np.int32),
        first_ts_N=rng.integers(1, _DAY_MS, NUM),
        probability_N=probability,
        version_N=rng.integers(900, 1100, NUM),
        other_N=np.full(NUM, np.nan),
        arm_N=np.array([0, arm_key("wide"), arm_key("deep")], np.uint64)[rng.integers(3, size=NUM)],
        canary_N=rng.random(NUM) < 0.1,
        label_N=label,
        sign_N=np.ones(NUM, np.int8),
        late_N=np.zeros(NUM, np.bool_),
        rate_N=np.where(rng.random(NUM) < 0.3, 0.5, 1.0),
        progressive_N=np.clip(probability + rng.normal(0.01, 0.05, NUM), 0.001, 0.999).astype(np.float32).astype(float),
        ts_N=np.arange(NUM) + _DAY_MS,
    )
    return outcomes, label & (rng.random(NUM) < 0.3)


def replaced(outcomes: ServedOutcomes, **columns: np.ndarray) -> ServedOutcomes:
    names = outcomes.__struct_fields__
    return ServedOutcomes(**{name: columns.get(name, getattr(outcomes, name)) for name in names})


def fed(meter: ServedMeter, outcomes: ServedOutcomes, late_N: np.ndarray, size: int = 177) -> list[Bucket]:
    """Block by block, a second each: as first told, and those with a late label once more some blocks later."""
    told = replaced(outcomes, label_N=outcomes.label_N & ~late_N)
    now_ms, buckets = 1000, []
    for start in range(0, NUM + 6 * size, size):
        at = np.arange(start, min(start + size, NUM))
        if len(at):
            meter.observe(told.take(at), now_ms)
        turned = np.flatnonzero(late_N[max(start - 5 * size, 0) : max(start - 4 * size, 0)]) + max(start - 5 * size, 0)
        if len(turned):
            pair = np.repeat(turned, 2)
            is_back = np.arange(len(pair)) % 2 == 0
            late = np.ones(len(pair), np.bool_)
            signs = np.where(is_back, -1, 1).astype(np.int8)
            meter.observe(replaced(told.take(pair), label_N=~is_back, sign_N=signs, late_N=late), now_ms)
        if start % (3 * size) == 0:
            buckets += meter.cut(now_ms)
        now_ms += 600
    return [*buckets, *meter.cut(now_ms)]
