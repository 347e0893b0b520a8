"""Two scores of a sample in the figures: the probability, and what a user's candidates are ordered by."""

import json
import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from support.columns import columns

from learner.learned import Learned, learned_of
from learner.metrics import uauc
from learner.parts import weight_names
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from stream.monitor.figures.bucket import _ARRAYS, RANK_UAUC, Bucket, _Stored
from stream.monitor.figures.cohorts import CohortScheme
from stream.monitor.figures.meter import Meter
from stream.monitor.page.view import View, to_json
from stream.predictions.columns import log_columns
from stream.settings import Settings


@pytest.fixture
def meter(settings: Settings) -> Meter:
    """As of the learner, but with every user in the UAUC."""
    return Meter(settings.monitor, len(settings.fields), len(weight_names(settings.recipe)), one_in=1)


def take_in(meter: Meter, samples: Samples, learned: Learned) -> None:
    """Have the meter take in what was predicted; popularity always says one half."""
    size = len(samples)
    places, baselines = (np.zeros(size, np.int64), np.zeros(size, np.int64)), np.full(size, 0.5)
    logged = log_columns(samples, places, learned.predictions_B, learned.ranks_B, baselines, 0)
    meter.observe(logged, samples, learned, 0, 1)


def scored(settings: Settings, users: Sequence[int], labels: Sequence[int], first: int = 0) -> Samples:
    """Samples whose scores are given to them; `first` is the number of the first one's impression."""
    features: list[object] = [None, None, None, [], None, [], None]
    made = []
    for n, (user, label) in enumerate(zip(users, labels, strict=True), first):
        core, state = Core(f"{n}", f"u{user}", "i", 1000 + n, 0, features), State([9, 0], 0.1, 0, 1, [9, 0], 0.1, 0)
        made.append(Sample(SampleKind(label), min(label, 1), -1, core, state))
    return columns(made, settings.fields)


def with_scores(samples: Samples, predictions: np.ndarray, ranks: np.ndarray) -> Learned:
    return msgspec.structs.replace(learned_of(samples, predictions), ranks_B=ranks)


def test_a_bucket_has_the_uauc_of_both_scores(settings: Settings, meter: Meter) -> None:
    rng, size = np.random.default_rng(4), 6000
    users, labels = rng.integers(120, size=size), rng.integers(2, size=size)
    ranks = 1.5 * (labels - 0.5) + rng.normal(size=size)
    # A level of the user that comes and goes: it spoils the order of the probabilities.
    predictions = 1 / (1 + np.exp(-(ranks + 2 * rng.normal(size=size))))
    samples = scored(settings, users, labels)
    learned = with_scores(samples, predictions, ranks)
    for start in range(0, size, 1000):
        chosen = (np.arange(size) >= start) & (np.arange(size) < start + 1000)
        take_in(meter, samples.slice(start, start + 1000), learned.take(chosen))
    shown = View(settings).show([Bucket.decode(bucket.encode()) for bucket in meter.cut(2)])
    for part in ("now", "whole", "faded"):
        found = shown[part][0]
        assert (found["dimension"], found["samples"]) == ("all", size)
        for name, scores in (("uauc", predictions), ("rank_uauc", ranks)):
            exact = uauc(labels, scores, users)
            assert found[name].value == pytest.approx(exact, abs=0.01), (part, name)
            assert found[name].low < exact < found[name].high
        assert found["rank_uauc"].low > found["uauc"].high
    row = json.loads(to_json(shown))["whole"][0]
    assert row["rank_uauc"] == msgspec.structs.asdict(shown["whole"][0]["rank_uauc"])


def test_a_late_label_is_found_by_both_scores(settings: Settings, meter: Meter) -> None:
    late = int(SampleKind.CORRECTION)
    for first, labels, predictions, ranks in (
        (0, [0, 0], [0.6, 0.3], [-1.0, 1.1]),
        (1, [late], [0.9, 0.9], [9.0, 9.0]),
        (2, [0], [0.5], [0.7]),
    ):
        samples, size = scored(settings, [3] * len(labels), labels, first), len(labels)
        take_in(meter, samples, with_scores(samples, np.array(predictions)[:size], np.array(ranks)[:size]))
        meter.fold()
    (bucket,) = meter.cut(2)
    overall = View(settings).overall(bucket)
    # The positive that the second impression has become is below the third as to the probability, and above as to rank.
    assert (overall["uauc"].value, overall["rank_uauc"].value) == (0.0, 1.0)
    assert bucket.late_labels == 0


def test_a_bucket_of_a_former_version_is_read(settings: Settings) -> None:
    bucket = Bucket(len(CohortScheme(settings.monitor)), len(settings.fields), 50, 6)
    rng = np.random.default_rng(2)
    for name in _ARRAYS:
        array = getattr(bucket, name)
        array[...] = rng.random(array.shape)
    stored = msgspec.msgpack.decode(bucket.encode(), type=_Stored)
    former = [bucket.replicates_CR5[..., :4] if name == "replicates_CR5" else getattr(bucket, name) for name in _ARRAYS]
    packed = zlib.compress(b"".join(array.astype(np.float32).tobytes() for array in former))
    found = Bucket.decode(
        msgspec.msgpack.encode(msgspec.structs.replace(stored, shape=stored.shape[:4], arrays=packed))
    )
    for name in _ARRAYS:
        expected = getattr(bucket, name).copy()
        if name == "replicates_CR5":
            expected[..., RANK_UAUC] = 0.0
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6, err_msg=name)
