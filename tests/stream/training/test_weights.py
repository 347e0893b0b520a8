"""Publishing and scoring: versions, hashes, ownership, the gate."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.columns import columns

from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from state_store.errors import LostOwnershipError
from state_store.outbox import Outbox
from state_store.weights import WeightsError, WeightStore
from stream.partitioning import partition_of
from stream.predictions.log import PredictionLog
from stream.process.store import open_store
from stream.serving.scorer import Candidate, NoWeightsError, Scorer
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher
from stream.training.trainer import Trainer

FEATURES = {"gender": "F", "age": "25", "occupation": "3"}


def records_of(count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    out = []
    for n in range(count):
        user, item = f"u{rng.integers(20)}", f"i{rng.integers(30)}"
        label = int(rng.random() < 0.5)
        core = Core(f"{n}", user, item, n, 0, ["F", "25", "3", ["a", "b"], "1990", ["x"], "1990s"])
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    return out


def samples_of(settings: Settings, count: int, seed: int) -> Samples:
    return columns(records_of(count, seed), settings.fields, settings.actions.names)


class Shop:
    """A learner and its publisher."""

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path) -> None:
        self.settings = settings
        self.learner = Learner(settings.recipe)
        self.weights = WeightStore(client, settings.redis.prefix)
        self.store = open_store(settings, client)
        self.norms = NormWriter(self.store, settings.kafka.partitions)
        self.publisher = Publisher(self.weights, self.norms, settings.publish)

    def learn(self, count: int, seed: int) -> dict[str, int]:
        """Learn from so many samples; returns their users with the partition of each."""
        samples = samples_of(self.settings, count, seed)
        self.learner.learn(samples)
        partitions = [partition_of(user_id, 2) for user_id in samples.user_ids]
        self.norms.note(samples, np.array(partitions))
        return dict(zip(samples.user_ids, partitions, strict=True))

    def norm(self, field: str, value: str) -> float:
        """Of a vector, by the table's values."""
        [row] = self.learner.table.find(np.array([value_key(field, value)], np.uint64))
        assert row > 0
        return float(np.linalg.norm(self.learner.table.values["v"][row]))

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


@pytest.mark.parametrize(("fast", "deep"), [(True, "none"), (True, "dcnv2"), (False, "dcnv2")])
def test_a_scorer_follows_deltas_to_the_same_place_as_one_that_starts_anew(
    fast: bool, deep: str, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        settings,
        model=msgspec.structs.replace(settings.model, fast=fast, deep=deep),
        publish=msgspec.structs.replace(settings.publish, full_every=3),
    )
    shop = Shop(settings, client, tmp_path)
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
    users = shop.learn(40, seed=1)
    assert shop.publish()
    assert len(users) > 10
    for user_id, partition in users.items():
        state = shop.store.read_user(partition, user_id)
        assert (state.norm, state.norm_version) == (pytest.approx(shop.norm("user_id", user_id), rel=1e-5), 1)
        assert state.norm > 0
    items = sorted(set(samples_of(shop.settings, 40, seed=1).item_ids))
    for p in (0, 1):
        for item_id, item in zip(items, shop.store.read_items(p, items), strict=True):
            assert (item.norm, item.norm_version) == (pytest.approx(shop.norm("item_id", item_id), rel=1e-5), 1)
    norms = {shop.norm("item_id", item_id) for item_id in items}
    assert len(norms) > 10, "each has its own"


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
    with scorer.versions.reading() as in_force:
        model = in_force.model
    others = samples_of(settings, 20, seed=3)
    before = model.predict(others).predictions_B
    shop.learn_and_publish(40, seed=2)
    manifest = shop.weights.latest()
    assert manifest is not None
    key = shop.store.keys.blob(manifest.deltas[-1].name)
    client.set(key, client.get(key)[:-1] + b"?")
    with pytest.raises(WeightsError, match="sha256"):
        scorer.refresh()
    with scorer.versions.reading() as in_force:
        assert in_force.model is model
    assert scorer.manifest.version == 1
    np.testing.assert_array_equal(model.predict(others).predictions_B, before)


def test_the_gate_holds_back_what_is_not_finite_or_much_worse(shop: Shop) -> None:
    assert shop.learn_and_publish(40, seed=1, log_loss=0.6)
    assert not shop.learn_and_publish(40, seed=2, log_loss=0.9)
    assert "0.9000" in shop.publisher.held_back
    shop.learner.fast.dense.arrays.gate_P[0] = np.nan
    assert not shop.publish(log_loss=0.6)
    assert "not finite" in shop.publisher.held_back
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
    small = msgspec.structs.replace(settings, learner=msgspec.structs.replace(settings.learner, micro_batch=7, block=7))
    keys = open_store(settings, client).keys
    outbox = Outbox(client, settings.redis.prefix, 2)
    samples = samples_of(settings, 60, seed=1)
    for start, partition in ((0, 0), (20, 1), (40, 0)):
        end = 20 if start < 40 else 40
        client.xadd(keys.outbox(partition), {"s": samples.slice(start, start + 20).encode()}, f"{end}-0")

    def trainer(state=None) -> Trainer:
        return Trainer(Learner(small.recipe), outbox, PredictionLog(tmp_path, keep=9), state)

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
    assert (ahead.norm, ahead.norm_version) == (pytest.approx(shop.norm("user_id", user_id), rel=1e-5), 2)
    assert shop.norms.num_waiting == 0
    shop.learn_and_publish(40, seed=2)
    assert shop.store.read_user(partition, user_id).norm_version == 2
