"""The model as a scorer holds it: what an id costs, and what becomes of one that processes share."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from learner.config import LearnerSettings, ModelSettings
from learner.fast.config import CrossSettings, FastSettings
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from learner.tables.memory import sharing
from learner.tables.shared import bytes_in_use
from tests.learner.fast.records import FIELDS, make_records, to_samples

FAST: dict[str, Any] = {
    "max_rows": 20_000,
    "max_cross_rows": 20_000,
    "counted_ids": 100,
}
MODELS = [
    ModelSettings(),
    ModelSettings(deep="dcnv2", dim=4, hidden=(8,)),
    ModelSettings(deep="deepfm", dim=4, hidden=(8,), fast=False),
]
models = pytest.mark.parametrize("model", MODELS, ids=["fast", "both", "deep"])


def make_learner(model: ModelSettings) -> Learner:
    crosses = (CrossSettings(("user_id", "genres")),)
    learner = LearnerSettings(micro_batch=32)
    return Learner(Recipe(FIELDS, crosses=crosses, model=model, fast=FastSettings(**FAST), learner=learner))


def some(seed: int) -> Samples:
    """Of so many users that an index grows."""
    return to_samples(make_records(1500, seed, num_users=1500))


def says(model: ServingModel) -> np.ndarray:
    return model.predict(some(9)).predictions_B


def in_a_fork(run: Callable[[], object]) -> None:
    """Run something in a process of its own, which ends without any of the tidying up."""
    pid = os.fork()
    if not pid:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_an_id_costs_what_a_prediction_needs_of_it() -> None:
    """First-order weight, vector, key, field and marks, and the index: 130 to 150 bytes, and 34 to 54 for a cross."""
    learner = make_learner(ModelSettings())
    learner.learn(some(1))
    model = ServingModel(learner.recipe)
    model.load(encode_snapshot(learner, None))
    factors = learner.recipe.fast_recipe.factors
    assert factors == 24
    for table, row in zip(model.tables, (4 * (1 + factors) + 10, 4 + 10), strict=True):
        assert table.num_rows > 600
        assert bytes_in_use(table) - table.index.nbytes == row * table.end
        assert 20 <= table.index.nbytes / table.num_rows <= 40
        # What else a table has room for is not written to, so it costs nothing.
        assert not table.arrays.last_ts_R.any()
        assert not table.arrays.free_R.any()
    ours, theirs = (bytes_in_use(tables[0]) for tables in (model.tables, [learner.table]))
    assert ours < 0.65 * theirs


@models
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_one_process_loads_another_reads(model: ModelSettings) -> None:
    learner = make_learner(model)
    with sharing():
        shared = ServingModel(learner.recipe)
    own = ServingModel(learner.recipe)
    own.load(encode_snapshot(learner, None))
    says(own)
    for seed in range(2):
        learner.learn(some(seed))
        blob = [*encode_snapshot(learner, take_changed(learner) if seed else None)]
        own.load(blob)
        in_a_fork(lambda blob=blob: (shared.attach(), shared.load(blob)))  # type: ignore[misc]
        shared.attach()
        np.testing.assert_array_equal(says(shared), says(own))


@models
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_process_left_half_loaded_is_begun_anew(model: ModelSettings) -> None:
    learner = make_learner(model)
    learner.learn(some(1))
    with sharing():
        shared = ServingModel(learner.recipe)
    shared.load(encode_snapshot(learner, None))
    learner.learn(some(2))
    blob = [*encode_snapshot(learner, None)]
    in_a_fork(lambda: shared.load(blob, pause=lambda: os._exit(0)))
    shared.attach()
    # As if it had died with a key in the index that has no row yet.
    table = shared.tables[0]
    table.index.insert(np.array([12345], np.uint64), np.array([19_999], np.int32))
    shared.clear()
    assert [table.num_rows for table in shared.tables] == [0] * len(shared.tables)
    shared.load(blob)
    own = ServingModel(learner.recipe)
    own.load(blob)
    np.testing.assert_array_equal(says(shared), says(own))
