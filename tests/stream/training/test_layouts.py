"""Samples of another layout than the learner's, and of a former version: what waits is learned once, or not at all."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.columns import columns
from support.samples import FEATURES, Samples, make_samples

from learner.config import FieldSettings
from learner.learner import Learner
from learner.samples.keys import value_key
from state_store.errors import OperatorError
from state_store.outbox import Outbox
from stream.predictions.log import PredictionLog, read_predictions
from stream.settings import Settings
from stream.training.trainer import Trainer

REFUSED = (ValueError, OperatorError)


def with_field(settings: Settings) -> Settings:
    """The same pipeline, after one more field was declared."""
    more = (*settings.fields, FieldSettings("price", "item", "numeric"))
    return msgspec.structs.replace(settings, fields=more, crosses=settings.recipe.crosses)


def trainer_of(settings: Settings, client: redis.Redis, folder: Path, state=None) -> Trainer:
    outbox = Outbox(client, settings.redis.prefix, settings.kafka.partitions)
    return Trainer(Learner(settings.recipe), outbox, PredictionLog(folder, keep=9), state)


def learn_all(trainer: Trainer) -> None:
    while trainer.step(partial=True):
        pass


def test_samples_of_other_fields_are_refused_and_wait_for_whoever_knows_them(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    Samples(client, settings).put(60)
    other = trainer_of(with_field(settings), client, tmp_path / "other")
    sentence = r"samples of layout [0-9a-f]{8} wait.*price \(numeric\).*start the learner with the settings"
    with pytest.raises(REFUSED, match=sentence):
        learn_all(other)
    assert (other.cursor, other.num_trained, other.num_missed) == ({}, 0, 0)
    right = trainer_of(settings, client, tmp_path / "right")
    learn_all(right)
    assert (right.cursor, right.num_trained, right.num_missed) == ({0: 60}, 60, 0)


def test_what_came_before_samples_of_other_fields_is_learned_first(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    before, behind = Samples(client, settings), Samples(client, with_field(settings), features=[*FEATURES, 9.5])
    before.put(60)
    behind.num = before.num
    behind.put(40)
    first = trainer_of(settings, client, tmp_path / "first")
    with pytest.raises(REFUSED, match="start the learner"):
        learn_all(first)
    assert (first.cursor, first.num_trained) == ({0: 60}, 60)
    Outbox(client, settings.redis.prefix, settings.kafka.partitions).report_learned(first.cursor)
    second = trainer_of(behind.settings, client, tmp_path / "second", first.state())
    learn_all(second)
    assert (second.cursor, second.num_trained, second.num_missed) == ({0: 100}, 100, 0)


def test_former_entries_of_other_fields_are_refused_too(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    former = Samples(client, settings)
    former.put(60, former=True)
    fields = [field for field in settings.fields if field.name != "genres"]
    other = trainer_of(msgspec.structs.replace(settings, fields=tuple(fields), crosses=()), client, tmp_path / "other")
    with pytest.raises(REFUSED, match=r"former version wait.*start the learner with the settings"):
        learn_all(other)
    assert (other.cursor, other.num_trained) == ({}, 0)
    right = trainer_of(settings, client, tmp_path / "right")
    learn_all(right)
    assert (right.cursor, right.num_trained, right.num_missed) == ({0: 60}, 60, 0)


def test_former_entries_lack_fields_that_were_declared_since(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    """Those of MovieLens had no decade: whoever has the default fields goes on."""
    assert settings.fields[-1].name == "decade"
    Samples(client, settings, FEATURES[:-1]).put(60, former=True)
    trainer = trainer_of(settings, client, tmp_path)
    learn_all(trainer)
    assert (trainer.cursor, trainer.num_trained) == ({0: 60}, 60)
    learner = trainer.learner
    decade, genres = (value_key(field, value) for field, value in (("decade", "1990s"), ("genres", "x")))
    assert learner.table.find(np.array([decade], np.uint64)) == [0]
    assert learner.table.find(np.array([genres], np.uint64)) > [0]


def test_entries_of_former_versions_are_read_as_if_they_were_columns(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    samples = Samples(client, settings)
    for form in ({"former": True}, {}, {"version_1": True}):
        samples.put(40, **form)
    trainer = trainer_of(settings, client, tmp_path)
    learn_all(trainer)
    assert (trainer.cursor, trainer.num_trained) == ({0: 120}, 120)
    trainer._log.flush(1)
    log = read_predictions(tmp_path)
    assert log["sequence"].to_list() == list(range(1, 121))
    assert log["imp_id"].to_list() == [f"7-{n}" for n in range(120)]
    # As a learner predicts that got nothing but columns: of samples as they were put there, twenty at a time.
    parts = [make_samples(20, seed=7, first=first) for first in range(0, 120, 20)]
    learner = Learner(settings.recipe)
    expected = np.concatenate([learner.learn(columns(part, settings.fields)).predictions_B for part in parts])
    assert len(set(expected.tolist())) > 50
    np.testing.assert_array_equal(log["prediction"].to_numpy(), expected)
