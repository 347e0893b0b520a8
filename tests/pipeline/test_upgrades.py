"""A learner that finds what another version, or other settings, have left: it loses nothing, and says what it does."""

import re
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from safetensors.numpy import save
from support.columns import columns
from support.samples import FEATURES, Samples, make_samples

from learner.checkpoints.folder import read_latest
from learner.config import FieldSettings
from learner.files import write_whole
from learner.samples.kind import SampleKind
from state_store.outbox import Outbox
from state_store.weights import WeightStore
from stream.command.roles import Role, wait_until
from stream.predictions.columns import log_columns
from stream.predictions.log import PredictionLog
from stream.settings import Settings
from stream.training.trainer import TrainerState

pytestmark = pytest.mark.slow


@pytest.fixture
def samples(settings: Settings, client: redis.Redis) -> Samples:
    return Samples(client, settings)


def with_field(settings: Settings) -> Settings:
    """The same pipeline, after one more field was declared."""
    more = (*settings.fields, FieldSettings("price", "item", "numeric"))
    return msgspec.structs.replace(settings, fields=more, crosses=settings.recipe.crosses)


def ends_with_the_sentence(settings: Settings, folder: Path) -> None:
    """A learner of these settings refuses what waits, as it was made with others."""
    refused = Role("learner", settings, folder).start()
    wait_until(lambda: refused.status is not None, "the learner to end")
    said = refused.log.read_text()
    assert refused.status == 1
    assert "Traceback" not in said, said
    last = said.strip().splitlines()[-1]
    assert re.search(r"coldstream: samples of layout [0-9a-f]{8} wait, and the settings say [0-9a-f]{8}: version", last)
    assert "start the learner with the settings that their worker had until they are learned" in last
    refused.log.write_text("")


def test_samples_of_other_fields_end_the_learner_and_wait_for_the_right_settings(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(300)
    ends_with_the_sentence(with_field(settings), tmp_path)
    assert (samples.waiting(), samples.learned()) == (15, 0)
    # Nor does it put a model that has learned nothing in the place of what is there.
    assert WeightStore(samples.client, settings.redis.prefix).latest() is None
    assert read_latest(tmp_path / "checkpoints") is None
    with Role("learner", settings, tmp_path) as learner:
        # It need not wait for the lease of the one that ended.
        wait_until(lambda: samples.learned() == 300 and samples.waiting() == 0, "all of it", [learner])
        assert samples.status().num_missed == 0
    samples.check_log(tmp_path)


def test_fields_may_change_between_two_samples(
    settings: Settings, client: redis.Redis, samples: Samples, tmp_path: Path
) -> None:
    """Nobody can wait with a change of the fields until every sample is learned: the worker runs on."""
    samples.put(300)
    behind = Samples(client, with_field(settings), features=[*FEATURES, 9.5])
    behind.num = samples.num
    behind.put(200)
    ends_with_the_sentence(behind.settings, tmp_path)
    assert samples.learned() == 0
    ends_with_the_sentence(settings, tmp_path)
    # What it could read it has learned, and kept.
    assert samples.learned() == 300
    with Role("learner", behind.settings, tmp_path) as learner:
        wait_until(lambda: behind.learned() == 500 and behind.waiting() == 0, "all of it", [learner])
        status = behind.status()
        assert (status.num_trained, status.num_missed) == (500, 0)
    assert "Traceback" not in learner.log.read_text()
    behind.check_log(tmp_path)


def test_samples_that_a_former_version_left_are_learned_once(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(200, former=True)
    with Role("learner", settings, tmp_path) as learner:
        wait_until(lambda: samples.learned() == 200, "the former ones", [learner])
        samples.put(100)
        wait_until(lambda: samples.learned() == 300 and samples.waiting() == 0, "all of it", [learner])
    assert "Traceback" not in learner.log.read_text()
    samples.check_log(tmp_path)


def test_a_model_of_a_former_version_is_begun_anew_behind_its_cursor(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(200, former=True)
    leave_former(settings, tmp_path, learned=120)
    Outbox(samples.client, settings.redis.prefix, settings.kafka.partitions).report_learned({0: 120})
    with Role("learner", settings, tmp_path) as learner:
        wait_until(lambda: samples.learned() == 200 and samples.waiting() == 0, "the rest", [learner])
        samples.put(100)
        wait_until(lambda: samples.learned() == 300 and samples.waiting() == 0, "what came later", [learner])
        status = samples.status()
        assert (status.num_trained, status.num_missed) == (300, 0)
    said = learner.log.read_text()
    warning = "000000000003.ckpt holds a model that cannot be continued (it is of a former version): a new one begins"
    assert said.count(warning) == 1
    assert "Traceback" not in said
    assert "restored" not in said
    samples.check_log(tmp_path)
    found = read_latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.meta["learner"]["format"] == 2
    assert found.meta["learner"]["num_samples"] == 180, "the former one's 120 are not in it"
    # From now on it is one of this version.
    learner.log.write_text("")
    with learner:
        samples.put(20)
        wait_until(lambda: samples.learned() == 320, "the next", [learner])
    assert "cannot be continued" not in learner.log.read_text()
    assert re.search(r"resumed from .*: 180 samples", learner.log.read_text())
    samples.check_log(tmp_path)


def test_a_model_of_other_settings_is_kept_unless_a_new_one_is_asked_for(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(100)
    with Role("learner", settings, tmp_path) as learner:
        wait_until(lambda: samples.learned() == 100 and samples.waiting() == 0, "the first", [learner])
    learner.log.write_text("")
    other = msgspec.structs.replace(settings, fast=msgspec.structs.replace(settings.fast, factors=8))
    samples.put(100)
    refused = Role("learner", other, tmp_path).start()
    wait_until(lambda: refused.status is not None, "the learner to end")
    said = refused.log.read_text()
    assert refused.status == 1
    assert "Traceback" not in said, said
    assert "holds a model that these settings do not fit" in said
    assert "learner.new_model=true" in said
    assert samples.learned() == 100
    anew = msgspec.structs.replace(other, learner=msgspec.structs.replace(other.learner, new_model=True))
    with Role("learner", anew, tmp_path) as learner:
        wait_until(lambda: samples.learned() == 200 and samples.waiting() == 0, "the others", [learner])
        assert (samples.status().num_trained, samples.status().num_missed) == (200, 0)
    assert "a new one begins, with the samples that it has not learned" in learner.log.read_text()
    samples.check_log(tmp_path)


def leave_former(settings: Settings, folder: Path, learned: int) -> None:
    """What a learner of the former version leaves behind so many samples: its model, and a log without rank scores."""
    samples = make_samples(learned, seed=7)
    log = PredictionLog(folder / "predictions", keep=9)
    places, half = (np.zeros(learned, np.int64), np.arange(learned) + 1), np.full(learned, 0.5)
    log.append(log_columns(columns(samples, settings.fields), places, half, half, half, 1))
    log.flush(3)
    file = folder / "predictions" / "000000000003.parquet"
    pl.read_parquet(file).drop("rank_score").write_parquet(file)
    kinds = [sum(s.kind is kind for s in samples) for kind in SampleKind if kind <= SampleKind.TASK_CORRECTION]
    trainer = TrainerState({0: learned}, kinds, [0] * 400)
    meta = {
        "learner": {"num_samples": learned, "max_ts": 1_700_000_000_000, "rows": [{"u1": 1}]},
        "trainer": msgspec.to_builtins(trainer),
        "number": 3,
    }
    arrays = {"dense.bias": np.zeros(1, np.float32), "table.values": np.ones((4, 17), np.float32)}
    body = save({**arrays, "meta": np.frombuffer(msgspec.msgpack.encode(meta), np.uint8)})
    write_whole(folder / "checkpoints" / "000000000003.ckpt", [sha256(body).digest(), body])
