"""A learner with each interaction model: it learns, goes on bit for bit when restored, and is served as it predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learner.config import LearnerSettings, ModelSettings
from learner.fast.config import FastSettings
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.models.catalog import NAMES
from learner.recipe import Recipe
from learner.samples.columns import blocks
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from tests.learner import checkpoints
from tests.learner.fast.records import FIELDS, changed, make_records, to_samples
from tests.learner.fast.streams import assert_equal

SMALL: dict[str, Any] = {"dim": 4, "hidden": (8,), "log_neurons": 8, "euler_orders": (5,), "fast": False}
OTHERS: list[dict[str, Any]] = [
    {"deep": "dnn", "dropout": 0.2, "id_dropout": 0.3},
    {"deep": "dcnv2_stacked", "cross_rank": 2, "cross_experts": 2},
    {"deep": "afn", "afn_ensemble": True},
    {"deep": "eulernet", "fast": True, "wide": True, "mask_scope": "field", "num_masks": 2},
    {"deep": "deepfm", "adapter_norms": (), "adapter_counts": False, "adapter_first_order": True},
    {"deep": "fm", "adapter": False, "num_masks": 0, "id_dropout": 0.5},
]
# SIF's end has its mixer before it, and that a history: tests/learner/test_sif.py.
MODELS = [{"deep": name} for name in NAMES if name != "sif"] + OTHERS
models = pytest.mark.parametrize("model", MODELS, ids=[str(model) for model in MODELS])


def make_learner(model: dict[str, Any], **learner: Any) -> Learner:
    return Learner(
        Recipe(
            FIELDS,
            model=ModelSettings(**{**SMALL, **model}),
            fast=FastSettings(max_rows=2_000, max_cross_rows=2_000, counted_ids=100),
            learner=LearnerSettings(**{"micro_batch": 32, "dense_lr": 5e-3, **learner}),
        )
    )


def learn(learner: Learner, records: list[Sample]) -> Learned:
    return joined([learner.learn(part) for part in blocks(to_samples(records), 100)])


def assert_says_the_same(got: Learned, expected: Learned) -> None:
    for name in ("predictions_B", "ranks_B", "norms_B2", "weights_BK"):
        if getattr(expected, name) is None:
            assert getattr(got, name) is None
        else:
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)


@models
def test_it_learns(model: dict[str, Any]) -> None:
    """Better than the constant that fits best, on samples that it has not seen."""
    records = make_records(1500)
    p = learn(make_learner(model), records).predictions_B[-500:].astype(np.float64)
    y = np.array([record.label for record in records[-500:]])
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    constant = -(y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
    assert loss < 0.9 * constant


@models
def test_a_restored_learner_goes_on_bit_for_bit(model: dict[str, Any], tmp_path: Path) -> None:
    records = make_records(400)
    learner = make_learner(model)
    learn(learner, records[:200])
    checkpoints.write(learner, tmp_path)
    expected = learn(learner, records[200:])
    restored = make_learner(model)
    learn(restored, records[50:100])
    checkpoints.restore(restored, tmp_path)
    # Of torch's own generator nothing is kept, and nothing must depend on it.
    torch.manual_seed(12345)
    assert_says_the_same(learn(restored, records[200:]), expected)
    assert_equal(restored.state()[0], learner.state()[0])


@models
def test_what_is_served_is_what_the_learner_would_say(model: dict[str, Any]) -> None:
    """From a full snapshot, and from one with what has changed on top."""
    records = make_records(500)
    learner = make_learner(model)
    learn(learner, records[:200])
    take_changed(learner)
    scorer = ServingModel(learner.recipe)
    scorer.load(encode_snapshot(learner, None))
    learn(learner, records[200:300])
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    samples = to_samples(records[300:])
    norms = zip(learner.norms_of(samples.user_keys), learner.norms_of(samples.item_keys), strict=True)
    shown = [
        changed(record, kind=SampleKind.SHOWN, user_norm=float(user), item_norm=float(item))
        for record, (user, item) in zip(records[300:], norms, strict=True)
    ]
    served = scorer.predict(to_samples(shown))
    said = learn(learner, shown)
    assert served.predictions_B.std() > 0.01
    np.testing.assert_allclose(served.predictions_B, said.predictions_B, atol=1e-6)
    np.testing.assert_allclose(served.ranks_B, said.ranks_B, atol=1e-5)


@pytest.mark.parametrize("model", [{"deep": "dnn", "dropout": 0.5}, {"deep": "deepfm", "id_dropout": 0.9}])
def test_what_is_said_of_a_sample_that_is_learned_is_what_would_have_been_served(model: dict[str, Any]) -> None:
    """Nothing is dropped from that, though the sample is learned from with something dropped."""
    model = {**model, "adapter": False}
    records = make_records(264)
    learner, other = make_learner(model), make_learner(model)
    for each in (learner, other):
        learn(each, records[:200])
    # All of them known, so that neither learner makes new rows, whose values are random.
    known = [changed(record, ts=record.core.ts + 10**6) for record in records[100:132]]
    shown = [changed(record, kind=SampleKind.SHOWN) for record in known]
    np.testing.assert_allclose(learn(learner, known).predictions_B, learn(other, shown).predictions_B, atol=1e-6)


@pytest.mark.parametrize(
    ("saved", "here"),
    [
        ({"deep": "dcnv2"}, {"deep": "dnn"}),
        ({"deep": "dnn"}, {"deep": "youtubednn"}),
        ({"deep": "dcnv2"}, {"deep": "dcnv2", "hidden": (4,)}),
        ({"deep": "fm"}, {"deep": "fm", "adapter": False}),
    ],
)
def test_a_state_of_another_model_is_refused(saved: dict[str, Any], here: dict[str, Any]) -> None:
    learner = make_learner(here)
    with pytest.raises(ValueError, match=f"model.deep = '{here['deep']}' as it is set now .*settings have changed"):
        learner.restore(*make_learner(saved).state())
