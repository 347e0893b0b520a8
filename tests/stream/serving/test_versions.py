"""Weights that are swapped under readers: each keeps its version, and both models end where a new one would."""

import threading

import msgspec
import numpy as np
import pytest
import redis
from safetensors.numpy import load as load_safetensors
from support.serving import Trained, some_samples

from learner.named import ArraysError, arrays_in
from learner.published.messages import gathered, message
from learner.snapshot import ServingModel, encode_snapshot
from state_store.weights import WeightsError, WeightStore
from stream.serving.turns.shared import SharedTurns
from stream.serving.versions import Versions
from stream.settings import Settings


@pytest.fixture
def trained(settings: Settings, client: redis.Redis) -> Trained:
    publish = msgspec.structs.replace(settings.publish, full_every=3)
    return Trained(msgspec.structs.replace(settings, publish=publish), client)


@pytest.fixture(params=["of one process", "shared"])
def versions(request: pytest.FixtureRequest, trained: Trained, client: redis.Redis) -> Versions:
    recipe = trained.settings.recipe
    turns = SharedTurns(recipe, 1) if request.param == "shared" else None
    return Versions(WeightStore(client, trained.settings.redis.prefix), recipe, turns)


def predictions(versions: Versions, trained: Trained) -> np.ndarray:
    with versions.reading() as current:
        assert current is not None
        return current.model.predict(some_samples(trained.settings, 50, seed=99)).predictions_B


def learners_own(trained: Trained) -> np.ndarray:
    """What a serving model says that is made of the learner's whole state."""
    model = ServingModel(trained.settings.recipe)
    model.load(encode_snapshot(trained.learner, None))
    return model.predict(some_samples(trained.settings, 50, seed=99)).predictions_B


def test_both_models_follow_deltas_and_full_snapshots_to_the_learners_own_scores(
    trained: Trained, versions: Versions
) -> None:
    for seed in range(1, 9):
        trained.publish(40, seed)
        assert versions.refresh()
        assert not versions.refresh()
        np.testing.assert_array_equal(predictions(versions, trained), learners_own(trained))
    assert versions.num_swaps == 8


def test_a_full_snapshot_leaves_no_row_that_it_does_not_have(trained: Trained) -> None:
    trained.publish(200, 1)
    model = ServingModel(trained.settings.recipe)
    model.load(encode_snapshot(trained.learner, None), alone=True)
    fast = trained.learner.fast
    assert fast is not None
    for table in (fast.table, fast.cross_table):
        keys = table.arrays.key_R[: table.end]
        table.drop(keys[keys > 0][::3])
    pauses = []
    model.load(encode_snapshot(trained.learner, None), alone=True, pause=lambda: pauses.append(1))
    served = model._fast
    assert served is not None
    for ours, theirs in ((served.table, fast.table), (served.cross_table, fast.cross_table)):
        held = [np.sort(t.arrays.key_R[: t.end][t.arrays.key_R[: t.end] > 0]) for t in (ours, theirs)]
        np.testing.assert_array_equal(*held)
    assert pauses


def test_a_reader_keeps_its_version_and_the_next_load_waits_for_it(trained: Trained, versions: Versions) -> None:
    trained.publish(40, 1)
    versions.refresh()
    samples = some_samples(trained.settings, 50, seed=99)
    with versions.reading() as held:
        assert held is not None
        before = held.model.predict(samples).predictions_B
        trained.publish(40, 2)
        assert versions.refresh()
        trained.publish(40, 3)
        loading = threading.Thread(target=versions.refresh)
        loading.start()
        loading.join(0.3)
        assert loading.is_alive(), "the model that is read is the next to be written to"
        assert versions.manifest is not None
        assert versions.manifest.version == 2
        np.testing.assert_array_equal(held.model.predict(samples).predictions_B, before)
    loading.join(20)
    assert versions.manifest.version == 3
    np.testing.assert_array_equal(predictions(versions, trained), learners_own(trained))


def test_no_reader_sees_two_versions_while_weights_are_swapped(trained: Trained, client: redis.Redis) -> None:
    versions = Versions(WeightStore(client, trained.settings.redis.prefix), trained.settings.recipe)
    samples = some_samples(trained.settings, 30, seed=99)
    trained.publish(40, 1)
    versions.refresh()
    seen: list[tuple[int, bytes]] = []
    wrong: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                with versions.reading() as current:
                    assert current is not None
                    assert current.manifest is not None
                    version = current.manifest.version
                    seen.append((version, current.model.predict(samples).predictions_B.tobytes()))
        except BaseException as exc:  # noqa: BLE001 - told by the test
            wrong.append(exc)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    own = {1: learners_own(trained).tobytes()}
    for version in range(2, 14):
        trained.publish(25, version)
        versions.refresh()
        model = ServingModel(trained.settings.recipe)
        model.load(encode_snapshot(trained.learner, None))
        own[version] = model.predict(samples).predictions_B.tobytes()
    done.set()
    for reader in readers:
        reader.join(20)
    assert not wrong
    own[1] = next(said for version, said in seen if version == 1) if any(v == 1 for v, _ in seen) else own[1]
    assert len({version for version, _ in seen}) > 3
    assert [version for version, said in seen if said != own[version]] == []


@pytest.mark.parametrize("how", ["tampered", "truncated", "missing"])
def test_damaged_blobs_are_refused_and_the_weights_in_use_stay(
    how: str, trained: Trained, versions: Versions, client: redis.Redis
) -> None:
    trained.publish(40, 1)
    versions.refresh()
    before = predictions(versions, trained)
    trained.publish(40, 2)
    manifest = WeightStore(client, trained.settings.redis.prefix).latest()
    assert manifest is not None
    key = trained.store.keys.blob(manifest.deltas[-1].name)
    blob = client.get(key)
    if how == "missing":
        client.delete(key)
    else:
        client.set(key, blob[:-1] + b"?" if how == "tampered" else blob[:-5])
    with pytest.raises(WeightsError, match=manifest.deltas[-1].name):
        versions.refresh()
    assert manifest.deltas[-1].name in versions.refused
    np.testing.assert_array_equal(predictions(versions, trained), before)
    client.set(key, blob)
    assert versions.refresh()
    assert not versions.refused
    np.testing.assert_array_equal(predictions(versions, trained), learners_own(trained))


@pytest.mark.parametrize(("epoch", "version", "said"), [(-1, 5, "older owner"), (0, -1, "older snapshot")])
def test_older_manifests_are_refused(
    epoch: int, version: int, said: str, trained: Trained, versions: Versions, client: redis.Redis
) -> None:
    for seed in (1, 2):
        trained.publish(40, seed)
        versions.refresh()
    held = versions.manifest
    assert held is not None
    older = msgspec.structs.replace(held, epoch=held.epoch + epoch, version=held.version + version)
    client.set(trained.store.keys.manifest, msgspec.json.encode(older))
    with pytest.raises(WeightsError, match=said):
        versions.refresh()
    assert versions.manifest == held


def test_arrays_are_read_as_the_library_reads_them(trained: Trained) -> None:
    trained.publish(40, 1)
    blob = message(gathered(encode_snapshot(trained.learner, None)))
    ours, theirs = arrays_in(blob), load_safetensors(blob)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name])
    for cut in (b"", blob[:4], blob[: len(blob) // 2], b"\xff" * 40):
        with pytest.raises(ArraysError):
            arrays_in(cut)
