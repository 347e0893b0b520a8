"""Weights in chunks: what is shared, what a kill leaves, what is refused, what rounding does."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import fsspec
import msgspec
import numpy as np
import pytest
import redis
from fsspec.implementations.memory import MemoryFileSystem
from support.serving import Trained, some_samples

from learner.named import arrays_in
from learner.published.encoding import encode_snapshot
from learner.published.messages import CHUNK_BYTES, gathered
from learner.snapshot import ServingModel
from state_store.chunks.places import NoObjectStoreError, ObjectPlace, Place, Places
from state_store.chunks.refs import BlobRef, ChunkRef
from state_store.chunks.snapshots import Snapshots
from state_store.keys import Keys
from state_store.weights import Manifest, StoreUnavailableError, WeightsError, WeightStore, blobs_of
from stream.sections import PublishSettings
from stream.serving.versions import Versions
from stream.settings import Settings, load_settings
from stream.training.publisher import Publisher

pytestmark = pytest.mark.usefixtures("small_ranges")
LAST_S = 60


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few hundred ids are many chunks."""
    monkeypatch.setattr("learner.published.encoding._AIM", 2048)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """In an S3 server, where its packages are installed: `pip install 'moto[s3]' flask flask-cors s3fs`."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server.start()
    host, port = server.get_host_and_port()
    own = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**own, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    fsspec.filesystem("s3").clear_instance_cache()
    yield "s3://bucket/weights"
    server.stop()


@pytest.fixture(params=["redis", "file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    yield {"redis": "redis", "file": f"file://{tmp_path}/weights", "memory": "memory://weights"}[request.param]
    MemoryFileSystem.store.clear()


@pytest.fixture
def publish(settings: Settings, store: str) -> PublishSettings:
    """Every third version is a full one; two are kept."""
    return msgspec.structs.replace(
        settings.publish, full_every=3, keep_versions=2, keep_every_s=0, store=store, retired_s=LAST_S
    )


@pytest.fixture
def trained(settings: Settings, client: redis.Redis, publish: PublishSettings) -> Trained:
    made = Trained(msgspec.structs.replace(settings, publish=publish), client)
    take_over(made)
    return made


def take_over(trained: Trained, at: Callable[[str], None] = lambda _: None) -> None:
    """Have another owner publish."""
    settings = trained.settings
    weights = WeightStore(trained.store.client, settings.redis.prefix, store=settings.publish.store, at=at)
    trained.publisher = Publisher(weights, trained.norms, settings.publish)


def places(trained: Trained) -> Places:
    return Places(trained.store.client, Keys(trained.settings.redis.prefix))


def place(trained: Trained) -> Place:
    return places(trained).of(trained.settings.publish.store)


def reader(trained: Trained) -> Versions:
    return Versions(WeightStore(trained.store.client, trained.settings.redis.prefix), trained.settings.recipe)


def newest(trained: Trained) -> Manifest:
    found = WeightStore(trained.store.client, trained.settings.redis.prefix).latest()
    assert found is not None
    return found


def chunks(trained: Trained, ref: BlobRef) -> tuple[ChunkRef, ...]:
    return Snapshots(places(trained)).chunks(ref)


def says(versions: Versions, trained: Trained) -> np.ndarray:
    with versions.reading() as current:
        assert current is not None
        return current.model.predict(some_samples(trained.settings, 30, seed=99)).predictions_B


def learners_own(trained: Trained) -> np.ndarray:
    model = ServingModel(trained.settings.recipe)
    model.load(encode_snapshot(trained.learner, None, trained.settings.publish.values))
    return model.predict(some_samples(trained.settings, 30, seed=99)).predictions_B


def test_a_full_version_shares_the_chunks_that_have_not_changed(trained: Trained) -> None:
    trained.publish(2000, 1, num_users=400, num_items=300)
    trained.publish(1, 2)
    trained.publish(1, 3)
    before, writes = chunks(trained, newest(trained).base), []
    take_over(trained, writes.append)
    trained.publish(1, 4)
    after = chunks(trained, newest(trained).base)
    assert len(before) == len(after) > 20
    shared = set(before) & set(after)
    # Three samples: the dense part, and ranges of rows of some twenty ids and crosses.
    assert 0.4 * len(before) < len(shared) < len(before)
    # The others, and their list.
    assert writes.count("chunk.written") == len(set(after) - shared) + 1
    anew = reader(trained)
    anew.refresh()
    np.testing.assert_array_equal(says(anew, trained), learners_own(trained))
    assert all(chunk.size <= CHUNK_BYTES for chunk in after)


class Killed(BaseException):
    """As if the process were gone: nothing catches it."""


class KillAt:
    """Dies at the n-th place that is passed."""

    def __init__(self, nth: int) -> None:
        self.left = nth
        self.passed: list[str] = []

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize("store", ["redis", "memory"], indirect=True)
@pytest.mark.parametrize("version", ["full", "of touched rows"])
def test_whatever_a_kill_interrupts_the_newest_version_is_whole_and_nothing_stays_for_good(
    version: str, trained: Trained
) -> None:
    said, now_ms, nth, passed = {}, 0, 0, set()
    if version == "of touched rows":
        take_over(trained)
    while True:
        trained.publish(30, 2 * nth, now_ms=now_ms)
        said[newest(trained).version] = learners_own(trained)
        kill = KillAt(nth + 1)
        if version == "full":
            take_over(trained, kill)
        else:
            trained.publisher._weights._snapshots._at = trained.publisher._weights._at = kill
        with suppress(Killed):
            trained.publish(30, 2 * nth + 1, now_ms=now_ms)
        passed |= set(kill.passed)
        found = newest(trained)
        if found.version not in said:
            said[found.version] = learners_own(trained)
        anew = reader(trained)
        anew.refresh()
        np.testing.assert_array_equal(says(anew, trained), said[found.version])
        # The other weights that are kept, too.
        for kept in WeightStore(trained.store.client, trained.settings.redis.prefix).kept():
            anew.take(kept)
        if kill.left > 0:
            kill.left = 0
            break
        nth += 1
        take_over(trained)
        now_ms += 1000
    assert passed >= {"chunk.before_write", "chunk.written", "publish.before_manifest"}
    assert ("publish.before_removal" in passed) == (version == "full")
    for seed in range(3 * 2):
        now_ms += LAST_S * 1000
        trained.publish(1, 1000 + seed, now_ms=now_ms)
    weights = WeightStore(trained.store.client, trained.settings.redis.prefix)
    stay = blobs_of([newest(trained), *weights.kept()])
    named = Snapshots(places(trained)).names(stay, trained.settings.publish.store)
    there = place(trained).names()
    assert named <= there
    retired = there - named
    # Those of the last full version before, whose time is not over.
    assert len(retired) < len(named)
    keys, client = Keys(trained.settings.redis.prefix), trained.store.client
    for_good = {key.decode() for key in client.scan_iter(keys.blob("*")) if client.ttl(key) == -1}
    assert for_good == {keys.blob(name) for name in Snapshots(places(trained)).names(stay, "redis")}


@pytest.mark.parametrize("how", ["tampered", "truncated", "missing"])
def test_a_damaged_chunk_is_refused_and_the_weights_in_use_stay(how: str, trained: Trained) -> None:
    trained.publish(300, 1)
    following, where = reader(trained), place(trained)
    following.refresh()
    before = says(following, trained)
    take_over(trained)
    trained.publish(300, 2)
    name = chunks(trained, newest(trained).base)[3].name
    whole = where.read(name)
    assert whole is not None
    if how == "missing":
        where.delete([name])
    else:
        where.write(name, whole[:-1] + b"?" if how == "tampered" else whole[:-5], None)
    anew = reader(trained)
    for versions in (following, anew):
        with pytest.raises(WeightsError, match=name):
            versions.refresh()
        assert name in versions.refused
    assert anew.manifest is None
    np.testing.assert_array_equal(says(following, trained), before)
    where.write(name, whole, None)
    for versions in (following, anew):
        assert versions.refresh()
        np.testing.assert_array_equal(says(versions, trained), learners_own(trained))


@pytest.mark.parametrize("is_whole", [True, False], ids=["by what changed", "by the base, as what changed is gone"])
def test_a_scorer_that_follows_goes_from_one_full_version_to_the_next(is_whole: bool, trained: Trained) -> None:
    following = reader(trained)
    for seed in range(1, 4):
        trained.publish(40, seed)
        following.refresh()
    trained.publish(40, 4)
    found = newest(trained)
    assert found.since is not None
    assert (found.deltas, len(found.since.deltas), found.base_version) == ((), 3, 4)
    gone = found.base if is_whole else found.since.deltas[-1]
    (place(trained) if is_whole else places(trained).redis).delete([gone.name])
    assert following.refresh()
    np.testing.assert_array_equal(says(following, trained), learners_own(trained))
    # The other model of the two is further behind.
    trained.publish(40, 5)
    assert following.refresh()
    np.testing.assert_array_equal(says(following, trained), learners_own(trained))


@pytest.mark.parametrize("store", ["redis"], indirect=True)
@pytest.mark.parametrize("values", ["float16", "bfloat16"])
def test_rounded_values_are_the_same_after_every_way_and_take_fewer_bytes(
    values: str, trained: Trained, client: redis.Redis
) -> None:
    publish = msgspec.structs.replace(trained.settings.publish, values=values)
    rounded = Trained(msgspec.structs.replace(trained.settings, publish=publish), client)
    following = reader(rounded)
    for seed in range(1, 6):
        rounded.publish(100, seed, num_users=100)
        assert following.refresh()
        anew = reader(rounded)
        anew.refresh()
        np.testing.assert_array_equal(says(following, rounded), says(anew, rounded))
        np.testing.assert_array_equal(says(following, rounded), learners_own(rounded))
    ours, theirs = (gathered(encode_snapshot(rounded.learner, None, kind)) for kind in (values, "float32"))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        least = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[values] if ".values." in name else 0.0
        np.testing.assert_allclose(ours[name], array, rtol=least, atol=2.0**-25 if least else 0.0)
    wide, narrow = (sum(map(len, encode_snapshot(rounded.learner, None, kind))) for kind in ("float32", values))
    # Keys, fields and the dense part stay as they are.
    assert narrow < 0.75 * wide


def test_what_is_beyond_float16_is_its_greatest(settings: Settings, client: redis.Redis) -> None:
    trained = Trained(settings, client)
    trained.publish(20, 1)
    trained.learner.table.values["w"][1:3, 0] = 1e6, -1e6
    found = [arrays_in(message) for message in encode_snapshot(trained.learner, None, "float16")]
    assert found[1]["0.values.w"][:2, 0].tolist() == [65504, -65504]


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_chunks_that_redis_has_evicted_are_written_anew(trained: Trained, client: redis.Redis) -> None:
    trained.publish(2000, 1, num_users=400, num_items=300)
    for seed in (2, 3):
        trained.publish(1, seed)
    for chunk in chunks(trained, newest(trained).base):
        client.delete(Keys(trained.settings.redis.prefix).blob(chunk.name))
    trained.learner.learn(some_samples(trained.settings, 1, 4))
    assert trained.publisher.publish(trained.learner, {0: 1}, {"log_loss": 0.6}, 0) is None
    assert "noeviction" in trained.publisher.held_back
    trained.publish(40, 5)
    anew = reader(trained)
    anew.refresh()
    np.testing.assert_array_equal(says(anew, trained), learners_own(trained))


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_what_a_former_release_has_published_is_refused_until_a_learner_publishes(
    trained: Trained, client: redis.Redis
) -> None:
    """It had one blob for each snapshot, and was not asked where."""
    trained.publish(20, 1)
    keys, whole = Keys(trained.settings.redis.prefix), b"".join(encode_snapshot(trained.learner, None))
    client.set(keys.blob("1-1-full"), whole)
    base = {"name": "1-1-full", "size": len(whole), "sha256": sha256(whole).hexdigest()}
    former = {"version": 7, "epoch": 1, "created_ms": 0, "base": base, "base_version": 7, "deltas": []}
    client.set(keys.manifest, msgspec.json.encode(former))
    client.set(keys.kept_weights, msgspec.json.encode([former]))
    anew = reader(trained)
    with pytest.raises(WeightsError, match="former release"):
        anew.refresh()
    take_over(trained)
    trained.publish(20, 2)
    anew.refresh()
    assert newest(trained).version == 8
    np.testing.assert_array_equal(says(anew, trained), learners_own(trained))


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_an_owner_that_was_taken_over_removes_nothing(trained: Trained) -> None:
    trained.publish(40, 1)
    former = trained.publisher
    take_over(trained)
    trained.publish(40, 2)
    trained.publisher._weights.sweep(former._sweeper, newest(trained), [], 0)
    there = place(trained).names()
    # What it takes for its own version names nothing of the newer one.
    stale = msgspec.structs.replace(newest(trained), epoch=1, base=BlobRef("", 0, ""), since=None)
    for now_s in (0, 2 * LAST_S):
        former._weights.sweep(former._sweeper, stale, [], now_s * 1000)
    assert place(trained).names() == there
    anew = reader(trained)
    anew.refresh()


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_a_store_that_is_away_is_waited_for(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreUnavailableError, match=r"file://.*tried again"):
        trained.publish(40, 1)
    (tmp_path / "weights").unlink()
    trained.publish(40, 2)
    reader(trained).refresh()


def test_a_store_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # It may have been imported before.
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(NoObjectStoreError, match=r"coldstream\[s3\]"):
        ObjectPlace("s3://bucket/folder", "cs")


@pytest.mark.parametrize("store", ["s3://", "file://here", "http://x/y", "s3://key:secret@bucket", "s3://a b"])
def test_a_store_that_is_none_is_refused(store: str) -> None:
    with pytest.raises(Exception, match=r"publish\.store"):
        load_settings(environment={}, overrides=[f"publish.store={store!r}"])
