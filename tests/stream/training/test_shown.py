"""Samples of impressions that have just passed: predicted and logged, and nothing else."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from support.columns import columns
from support.samples import make_samples

from learner.learner import Learner
from learner.parts import weight_names
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from state_store.keys import Keys
from state_store.outbox import Outbox
from stream.monitor.figures.meter import Meter
from stream.monitor.page.view import View
from stream.predictions.judged import matured, with_served
from stream.predictions.log import PredictionLog, read_predictions
from stream.process.store import open_store
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.trainer import Trainer

NUM = 60


def shown(samples: list[Sample]) -> list[Sample]:
    """What said that their impressions had passed."""
    return [msgspec.structs.replace(sample, kind=SampleKind.SHOWN, label=0, delay_ms=-1) for sample in samples]


class Run:
    """A trainer over the entries that it is given."""

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path, prefix: str) -> None:
        self._settings = msgspec.structs.replace(settings, redis=msgspec.structs.replace(settings.redis, prefix=prefix))
        self._client = client
        self._log, self._folder = PredictionLog(folder, keep=9), folder
        self._num = 0
        self.meter = Meter(settings.monitor, len(settings.fields), len(weight_names(settings.recipe)), one_in=1)
        self.norms = NormWriter(open_store(self._settings, client), 2)
        outbox = Outbox(client, prefix, 2)
        self.trainer = Trainer(Learner(settings.recipe), outbox, self._log, meter=self.meter, norms=self.norms)

    def learn(self, samples: list[Sample]) -> None:
        """As one entry, and as one block."""
        self._num += len(samples)
        entry = columns(samples, self._settings.fields).encode()
        self._client.xadd(Keys(self._settings.redis.prefix).outbox(0), {"s": entry}, f"{self._num}-0")
        assert self.trainer.step(partial=True, now_ms=1) == len(samples)

    def log(self) -> pl.DataFrame:
        self._log.flush(1)
        return read_predictions(self._folder)


@pytest.fixture
def run(settings: Settings, client: redis.Redis, tmp_path: Path) -> Run:
    return Run(settings, client, tmp_path / "run", settings.redis.prefix)


def test_what_has_just_passed_is_logged_and_no_figure_counts_it(run: Run, settings: Settings) -> None:
    samples = make_samples(NUM, seed=3)
    run.learn(shown(samples))
    assert run.trainer.learner.num_samples == 0
    assert run.norms.num_waiting == 0
    assert run.meter.cut(1) == []
    run.learn(samples)
    # In one block with others, too.
    more = make_samples(NUM, seed=4, first=NUM)
    run.learn([sample for pair in zip(shown(more), more, strict=True) for sample in pair])
    assert run.trainer.learner.num_samples == run.norms.num_waiting == 2 * NUM
    assert run.trainer.num_by_kind[SampleKind.SHOWN] == 2 * NUM
    assert (run.trainer.num_trained, run.trainer.cursor) == (4 * NUM, {0: 4 * NUM})
    (bucket,) = run.meter.cut(2)
    overall = View(settings).overall(bucket)
    assert overall["samples"] == 2 * NUM
    assert overall["positives"] == sum(sample.label for sample in samples + more)
    assert bucket.late_labels == 0
    log = run.log()
    assert log["kind"].to_list().count(int(SampleKind.SHOWN)) == 2 * NUM
    rows = with_served(matured(log), log)
    assert len(rows) == 2 * NUM
    assert rows["served_prediction"].is_finite().all()
    # Nothing was learned between the two of the very first one, and of each that stood beside its label. But ids that
    # nobody has learned from have no row yet: they are nothing to whoever predicts, and something new to the learner.
    known: set[str] = set()
    are_known = [known >= (ids := {s.core.user_id, s.core.item_id}) or bool(known.update(ids)) for s in samples + more]
    for served, own in (("served_prediction", "prediction"), ("served_rank_score", "rank_score")):
        differences = np.abs(rows[served].to_numpy() - rows[own].to_numpy())
        assert differences[0] < 0.02
        assert 20 < sum(are_known[NUM:]) < NUM
        assert differences[NUM:][are_known[NUM:]].tolist() == [0.0] * sum(are_known[NUM:])
        assert differences[NUM:].max() < 0.05
    assert (rows["prediction"][1:NUM] != rows["served_prediction"][1:NUM]).mean() > 0.9


def test_predicting_what_has_just_passed_changes_nothing(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    runs = [Run(settings, client, tmp_path / name, f"{settings.redis.prefix}-{name}") for name in ("with", "without")]
    for seed in (1, 2, 3):
        samples = make_samples(NUM, seed, first=NUM * seed)
        runs[0].learn(shown(samples))
        for run in runs:
            run.learn(samples)
    first, second = (run.log().filter(pl.col("kind") < int(SampleKind.SHOWN)) for run in runs)
    assert len(first) == len(second) == 3 * NUM
    for name in ("prediction", "rank_score"):
        np.testing.assert_array_equal(first[name].to_numpy(), second[name].to_numpy())
    (arrays, meta), (others, other_meta) = (run.trainer.learner.state() for run in runs)
    assert meta == other_meta
    assert arrays.keys() == others.keys()


def test_norms_follow_what_negatives_teach_when_they_settle(run: Run) -> None:
    samples = make_samples(NUM, seed=5)
    run.learn(samples)
    run.norms.write(run.trainer.learner, 1)
    settled = [msgspec.structs.replace(one, kind=SampleKind.SETTLED) for one in samples if not one.label]
    run.learn(settled)
    assert run.norms.num_waiting == len(settled)


def test_freshness_is_told_whatever_the_first_block_is(run: Run, settings: Settings) -> None:
    """The learner looks at the ages of some blocks, and the meter only has those with labels."""
    for block in range(40):
        samples = make_samples(4, seed=block, first=4 * block)
        run.learn(shown(samples))
        run.learn(samples)
    # Of 80 blocks, every sixteenth.
    (bucket,) = run.meter.cut(1)
    rows = {row["feature"]: row for row in View(settings).freshness(bucket)}
    assert rows["gender"]["null"].value == 0.0
    assert rows["gender"]["age_p99_s"] == 1.0
