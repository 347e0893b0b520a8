"""Publishing and scoring: versions, hashes, ownership, the gate."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from learner.learner import Learner
from learner.sample import Core, Sample, SampleKind, State
from state_store.errors import LostOwnershipError
from state_store.outbox import Outbox
from state_store.weights import WeightsError, WeightStore
from stream.partitioning import partition_of
from stream.prediction_log import PredictionLog
from stream.process.store import open_store
from stream.serving.scorer import Candidate, NoWeightsError, Scorer
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer

FEATURES = {"gender": "F", "age": "25", "occupation": "3"}


def samples_of(count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    out = []
    for n in range(count):
        user, item = f"u{rng.integers(20)}", f"i{rng.integers(30)}"
        label = int(rng.random() < 0.5)
        core = Core(f"{n}", user, item, n, 0, ["F", "25", "3", ["a", "b"], "1990", ["x"]])
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    return out


class Shop:
    """A learner and its publisher."""

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path) -> None:
        self.settings = settings
        self.learner = Learner(settings.model, settings.learner, settings.fields, 1)
        self.weights = WeightStore(client, settings.redis.prefix)
        self.store = open_store(settings, client)
        self.norms = NormWriter(self.store, settings.kafka.partitions)
        self.publisher = Publisher(self.weights, self.norms, settings.publish, settings.redis.prefix)

    def learn(self, count: int, seed: int) -> dict[str, int]:
        """Learn from so many samples; returns their users with the partition of each."""
        samples = samples_of(count, seed)
        self.learner.learn_many(samples)
        self.norms.note((partition_of(s.core.user_id, 2), n, s) for n, s in enumerate(samples))
        return {s.core.user_id: partition_of(s.core.user_id, 2) for s in samples}

    def publish(self, log_loss: float = 0.6) -> bool:
        return self.publisher.publish(self.learner, {0: 1}, {"log_loss": log_loss}, 123) is not None

    def learn_and_publish(self, count: int, seed: int, log_loss: float = 0.6) -> bool:
        self.learn(count, seed)
        return self.publish(log_loss)


@pytest.fixture
def shop(settings: Settings, client: redis.Redis, tmp_path: Path) -> Shop:
    publish = msgspec.structs.replace(settings.publish, full_every=3)
    return Shop(msgspec.structs.replace(settings, publish=publish), client, tmp_path)


def scores(scorer: Scorer) -> np.ndarray:
    items = [Candidate(f"i{n}", {"title": ["a"], "year": "1990", "genres": ["x"]}) for n in range(30)]
    return scorer.score("u1", FEATURES, items)


def test_a_scorer_follows_deltas_to_the_same_place_as_one_that_starts_anew(
    shop: Shop, settings: Settings, client: redis.Redis
) -> None:
    following = Scorer(settings, client)
    seen = []
    for version in range(1, 8):
        assert shop.learn_and_publish(40, seed=version)
        assert following.refresh()
        assert not following.refresh()
        anew = Scorer(settings, client)
        anew.refresh()
        np.testing.assert_array_equal(scores(following), scores(anew))
        seen.append(scores(following))
        assert anew.manifest is not None
        assert (anew.manifest.version, len(anew.manifest.deltas)) == (version, (version - 1) % 3)
    assert all(not np.array_equal(a, b) for a, b in pairwise(seen))
    assert all(0 < s < 1 for s in seen[-1])


def test_norms_carry_the_version_of_their_weights(shop: Shop) -> None:
    shop.learn_and_publish(40, seed=1)
    table = shop.learner.table
    user_id, row = next(iter(table.rows_of[0].items()))
    state = shop.store.read_user(partition_of(user_id, 2), user_id)
    assert (state.norm, state.norm_version) == (pytest.approx(float(table.values_RD[row, :16].norm())), 1)
    for p in (0, 1):
        item_id, row = next(iter(table.rows_of[4].items()))
        (item,) = shop.store.read_items(p, [item_id])
        assert item.norm == pytest.approx(float(table.values_RD[row, :16].norm()))


def test_an_attempt_that_is_cut_off_behind_the_manifest_is_found_and_its_norms_follow(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise redis.ConnectionError("gone")

    shop.learn_and_publish(40, seed=1)
    users = shop.learn(40, seed=2)
    with monkeypatch.context() as broken:
        broken.setattr(shop.store, "write_norms", cut)
        with pytest.raises(redis.ConnectionError):
            shop.publish()
    # Its version is in force all the same: the next one must not take it for another learner's.
    assert shop.publish()
    manifest = shop.weights.latest()
    assert manifest is not None
    assert (manifest.version, manifest.base_version) == (3, 3)
    user_id, partition = next(iter(users.items()))
    assert shop.store.read_user(partition, user_id).norm_version == 3


def test_a_damaged_blob_is_refused_and_the_weights_in_use_stay(
    shop: Shop, settings: Settings, client: redis.Redis
) -> None:
    scorer = Scorer(settings, client)
    shop.learn_and_publish(40, seed=1)
    scorer.refresh()
    model = scorer._model
    before = model.predict_many(samples_of(20, seed=3))
    shop.learn_and_publish(40, seed=2)
    manifest = shop.weights.latest()
    assert manifest is not None
    key = shop.store.keys.blob(manifest.deltas[-1].name)
    client.set(key, client.get(key)[:-1] + b"?")
    with pytest.raises(WeightsError, match="sha256"):
        scorer.refresh()
    assert scorer._model is model
    assert scorer.manifest.version == 1
    np.testing.assert_array_equal(model.predict_many(samples_of(20, seed=3)), before)


def test_the_gate_holds_back_what_is_not_finite_or_much_worse(shop: Shop) -> None:
    assert shop.learn_and_publish(40, seed=1, log_loss=0.6)
    assert not shop.learn_and_publish(40, seed=2, log_loss=0.9)
    assert "0.9000" in shop.publisher.held_back
    next(shop.learner.dense.parameters()).data.fill_(float("nan"))
    assert not shop.publish(log_loss=0.6)
    assert shop.weights.latest().version == 1


def test_an_older_owner_cannot_publish(shop: Shop, settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    shop.learn_and_publish(40, seed=1)
    newer = Shop(settings, client, tmp_path)
    newer.learn_and_publish(40, seed=1)
    with pytest.raises(LostOwnershipError, match=settings.redis.prefix):
        shop.learn_and_publish(40, seed=2)


def test_scoring_before_the_first_publish_says_so(settings: Settings, client: redis.Redis) -> None:
    with pytest.raises(NoWeightsError, match="learner"):
        Scorer(settings, client).score("u", {}, [Candidate("i")])


def test_a_trainer_resumes_inside_an_entry_and_trains_each_sample_once(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    small = msgspec.structs.replace(settings.learner, micro_batch=7, max_micro_batch=7)
    keys = open_store(settings, client).keys
    outbox = Outbox(client, settings.redis.prefix, 2)
    samples = samples_of(60, seed=1)
    for start, partition in ((0, 0), (20, 1), (40, 0)):
        end = 20 if start < 40 else 40
        client.xadd(keys.outbox(partition), {"s": msgspec.msgpack.encode(samples[start : start + 20])}, f"{end}-0")

    def trainer(state=None) -> Trainer:
        learner = Learner(settings.model, small, settings.fields, 1)
        return Trainer(learner, outbox, PredictionLog(tmp_path, keep=9), state)

    whole = trainer()
    while whole.step(partial=True):
        pass
    assert whole.cursor == {0: 40, 1: 20}
    assert whole.num_trained == 60
    first = trainer()
    for _ in range(4):
        assert first.step(partial=False) == 7
    outbox.report_learned(first.cursor)
    second = trainer(first.state())
    while second.step(partial=True):
        pass
    assert second.num_trained == 60
    assert second.learner.num_samples == 60 - 28
    assert second.cursor == whole.cursor


def test_norms_are_written_ahead_of_the_weights_that_they_belong_to(shop: Shop) -> None:
    shop.learn_and_publish(40, seed=1)
    users = shop.learn(40, seed=2)
    shop.norms.write(shop.learner, shop.publisher.version + 1)
    user_id, partition = next(iter(users.items()))
    ahead = shop.store.read_user(partition, user_id)
    row = shop.learner.table.rows_of[0][user_id]
    assert (ahead.norm, ahead.norm_version) == (pytest.approx(float(shop.learner.table.values_RD[row, :16].norm())), 2)
    assert shop.norms.num_waiting == 0
    shop.learn_and_publish(40, seed=2)
    assert shop.store.read_user(partition, user_id).norm_version == 2
