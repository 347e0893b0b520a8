"""Kept versions: which stay, what is served of them, and what holds publishing back."""

import msgspec
import numpy as np
import pytest
import redis
from support.serving import Trained, some_samples

from state_store.chunks.refs import ChunkRef
from state_store.errors import OperatorError
from state_store.keys import Keys
from state_store.rollout import Decision
from state_store.weights import BlobRef, Manifest, WeightsError, WeightStore, blobs_of, thinned
from stream.command.kept import Desk, NoWayBackError
from stream.serving.versions import Versions
from stream.settings import Settings
from stream.training.publisher import Publisher


@pytest.fixture
def trained(settings: Settings, client: redis.Redis) -> Trained:
    """Every second version is a full one; three of them are kept."""
    publish = msgspec.structs.replace(settings.publish, full_every=2, keep_versions=3, keep_every_s=0)
    return Trained(msgspec.structs.replace(settings, publish=publish), client)


@pytest.fixture
def weights(trained: Trained, client: redis.Redis) -> WeightStore:
    return WeightStore(client, trained.settings.redis.prefix)


@pytest.fixture
def versions(trained: Trained, weights: WeightStore) -> Versions:
    return Versions(weights, trained.settings.recipe)


@pytest.fixture
def desk(trained: Trained, client: redis.Redis) -> Desk:
    return Desk(client, trained.settings.redis.prefix, "anna")


def said(versions: Versions, trained: Trained) -> np.ndarray:
    with versions.reading() as current:
        assert current is not None
        return current.model.predict(some_samples(trained.settings, 30, seed=99)).predictions_B


Chunks = tuple[ChunkRef, ...]


def blob_of(client: redis.Redis, trained: Trained, ref: BlobRef) -> bytes:
    found = client.get(Keys(trained.settings.redis.prefix).blob(ref.name))
    assert found is not None
    return bytes(found)


def at(version: int, created_s: int) -> Manifest:
    return Manifest(
        version=version, epoch=1, created_ms=created_s * 1000, base=BlobRef(f"{version}", 1, ""), base_version=version
    )


def test_kept_versions_lie_apart_and_protected_ones_stay() -> None:
    kept: list[Manifest] = []
    for n in range(40):
        kept = thinned([*kept, at(n, 10 * n)], 4, 60_000, frozenset({6}))
    assert [m.version for m in kept] == [6, 24, 30, 36, 39]
    assert [m.version for m in thinned([*kept, at(40, 400)], 2, 0, frozenset())] == [39, 40]


def test_blobs_of_kept_versions_stay_and_all_others_expire(
    trained: Trained, weights: WeightStore, client: redis.Redis, desk: Desk
) -> None:
    for seed in range(1, 4):
        trained.publish(20, seed)
    desk.pin(1, "as good as any")
    # Another learner takes over: what the first one has left behind goes, too.
    other = Trained(trained.settings, client)
    for seed in range(4, 12):
        other.publish(20, seed)
    kept = weights.kept()
    assert [m.version for m in kept] == [1, 6, 8, 10]
    latest = weights.latest()
    assert latest is not None
    stay = set()
    for ref in blobs_of([latest, *kept]):
        stay |= {ref.name, *(chunk.name for chunk in msgspec.json.decode(blob_of(client, trained, ref), type=Chunks))}
    keys = Keys(trained.settings.redis.prefix)
    blobs = {key.decode().rpartition(":")[2]: client.ttl(key) for key in client.scan_iter(keys.blob("*"))}
    assert {name for name, ttl in blobs.items() if ttl == -1} == stay
    assert {name.decode() for name in client.smembers(keys.chunks)} == stay
    assert len(blobs) > len(stay), "the others have time left"
    assert {0 < ttl <= trained.settings.publish.retired_s for ttl in blobs.values() if ttl != -1} == {True}


def test_the_version_that_an_arm_is_at_stays(settings: Settings, client: redis.Redis) -> None:
    publish = msgspec.structs.replace(settings.publish, full_every=1, keep_versions=2, keep_every_s=0)
    trained = Trained(msgspec.structs.replace(settings, publish=publish), client)
    weights = WeightStore(client, settings.redis.prefix)
    trained.publisher = Publisher(weights, trained.norms, publish, named={2})
    for seed in range(1, 7):
        trained.publish(20, seed)
    assert [m.version for m in weights.kept()] == [2, 5, 6]
    assert [*weights.read(weights.kept()[0].base)]


def test_nothing_behind_the_version_that_is_gone_back_to_counts_as_stable(trained: Trained, desk: Desk) -> None:
    for seed in range(1, 6):
        trained.publish(20, seed)
    rollouts = WeightStore(trained.store.client, trained.settings.redis.prefix).rollouts
    rollouts.update(lambda now: msgspec.structs.replace(now, stable=3, candidate=5))
    after = desk.rollback(1, "all of them were bad", learner=False)
    assert (after.pinned, after.stable, after.candidate) == (1, 1, 0)
    after = desk.rollback(5, "no, they were not", learner=False)
    assert (after.pinned, after.stable, after.candidate) == (5, 1, 0)


def test_a_pinned_version_is_served_as_it_was_then_the_newest_again(
    trained: Trained, versions: Versions, desk: Desk
) -> None:
    then = {}
    for seed in range(1, 6):
        trained.publish(20, seed)
        assert versions.refresh()
        then[seed] = said(versions, trained)
    desk.pin(3, "clicks fell")
    assert versions.refresh()
    np.testing.assert_array_equal(said(versions, trained), then[3])
    assert versions.rollout.why_pinned == "clicks fell (anna)"
    trained.publish(20, 6)
    assert not versions.refresh()
    assert desk.rollback(0, "still bad", learner=False).pinned == 1, "the one before what is served"
    assert versions.refresh()
    np.testing.assert_array_equal(said(versions, trained), then[1])
    desk.unpin("mended")
    assert versions.refresh()
    assert versions.manifest is not None
    assert versions.manifest.version == 6
    decisions = [(d.what, d.version, d.by) for d in desk.overview().decisions]
    assert decisions == [("pin", 3, "anna"), ("rollback", 1, "anna"), ("unpin", 1, "anna")]


def test_what_cannot_be_served_is_refused_and_the_weights_in_use_stay(
    trained: Trained, versions: Versions, weights: WeightStore, desk: Desk, client: redis.Redis
) -> None:
    for seed in range(1, 6):
        trained.publish(20, seed)
    versions.refresh()
    before = said(versions, trained)
    with pytest.raises(OperatorError, match="version 4 is not kept; these are: 1, 3, 5"):
        desk.pin(4, "no")
    desk.pin(3, "yes")
    client.delete(Keys(trained.settings.redis.prefix).blob(weights.kept()[1].base.name))
    with pytest.raises(WeightsError, match="gone from Redis"):
        versions.refresh()
    weights.rollouts.update(lambda now: now.decide(Decision(0, "pin", 4, "by redis-cli", "ben"), pinned=4))
    with pytest.raises(WeightsError, match="4 are pinned, but not kept"):
        versions.refresh()
    client.set(Keys(trained.settings.redis.prefix).rollout, "{")
    with pytest.raises(WeightsError, match="no rollout"):
        versions.refresh()
    np.testing.assert_array_equal(said(versions, trained), before)
    assert "no rollout" in versions.refused


def test_unpinning_does_not_open_the_way_to_older_weights(
    trained: Trained, versions: Versions, weights: WeightStore, desk: Desk, client: redis.Redis
) -> None:
    for seed in range(1, 6):
        trained.publish(20, seed)
        versions.refresh()
    desk.pin(1, "old")
    versions.refresh()
    latest = weights.latest()
    assert latest is not None
    older = msgspec.structs.replace(latest, version=4)
    client.set(Keys(trained.settings.redis.prefix).manifest, msgspec.json.encode(older))
    desk.unpin("new")
    with pytest.raises(WeightsError, match="older than those in use, 5"):
        versions.refresh()


def attempt(trained: Trained, now_ms: int) -> str:
    trained.publisher.publish(trained.learner, {0: 1}, {"log_loss": 0.6}, now_ms)
    return trained.publisher.held_back


def test_publishing_is_held_by_people_by_drift_and_by_a_spoilt_rollout(settings: Settings, client: redis.Redis) -> None:
    publish = msgspec.structs.replace(settings.publish, hold_on_drift_s=30)
    trained = Trained(msgspec.structs.replace(settings, publish=publish), client)
    desk = Desk(client, settings.redis.prefix, "anna")
    assert not attempt(trained, 0)
    desk.hold("prices are wrong")
    assert attempt(trained, 0) == "publishing is held: prices are wrong"
    desk.release("mended")
    trained.publisher.gate.hear("user 0: NE against popularity drifted, now +0.2", 1_000)
    assert not attempt(trained, 2_000)
    trained.publisher.gate.hear("all samples: calibration drifted, now 1.900", 3_000)
    assert "calibration drifted" in attempt(trained, 32_000)
    assert not attempt(trained, 33_000)
    client.set(Keys(settings.redis.prefix).rollout, "{")
    assert "no rollout" in attempt(trained, 34_000)


def test_the_way_back_needs_a_checkpoint(trained: Trained, desk: Desk) -> None:
    for seed in range(1, 4):
        trained.publish(20, seed)
    with pytest.raises(NoWayBackError, match="version 1 has no checkpoint"):
        desk.rollback(1, "bad", learner=True)
    assert desk.overview().pinned == 0
