"""Weights and state of a small shop, for what serves them."""

import time
import urllib.error
import urllib.request
from typing import Any

import msgspec
import numpy as np
import redis
from support.columns import columns

from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from state_store.embedded.child import free_port
from state_store.weights import WeightStore
from stream.partitioning import partition_of
from stream.process.store import open_store
from stream.sections import ServingSettings
from stream.settings import Settings
from stream.training.norms import NormWriter
from stream.training.publisher import Publisher

FEATURES = ["F", "25", "3", ["a", "b"], "1990", ["x"], "1990s"]


def some_samples(settings: Settings, count: int, seed: int, num_users: int = 20, num_items: int = 30) -> Samples:
    """Samples of MovieLens' fields."""
    rng = np.random.default_rng(seed)
    out = []
    for n in range(count):
        user, item = f"u{rng.integers(num_users)}", f"i{rng.integers(num_items)}"
        label = int(rng.random() < 0.5)
        core = Core(f"{seed}-{n}", user, item, 60_000 * (n + 1), 0, FEATURES)
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    samples = columns(out, settings.fields, settings.actions.names)
    rows = samples.rows_B
    rows["user_first_ts"] = 1
    rows["user_last_ts"] = np.ceil(rows["ts"] * rng.random(count))
    return samples


FIRST_MS, LAST_MS = 1_700_000_000_000, 1_700_000_060_000
"""First and last impression of the users that are counted."""


class Trained:
    """A learner and its publisher, by hand."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings = settings
        self.learner = Learner(settings.recipe)
        self.store = open_store(settings, client)
        self.norms = NormWriter(self.store, settings.kafka.partitions)
        weights = WeightStore(client, settings.redis.prefix)
        self.publisher = Publisher(weights, self.norms, settings.publish)

    def publish(self, count: int, seed: int, now_ms: int = 0, **shop: int) -> None:
        """Learn from so many samples, and publish."""
        samples = some_samples(self.settings, count, seed, **shop)
        self.learner.learn(samples)
        partitions = [partition_of(user_id, self.settings.kafka.partitions) for user_id in samples.user_ids]
        self.norms.note(samples, np.array(partitions))
        assert self.publisher.publish(self.learner, {0: 1}, {"log_loss": 0.6}, now_ms) is not None

    def count(self, user_id: str, items: dict[str, int], impressions: int) -> None:
        """Put counts into the state, as a worker would."""
        partition = partition_of(user_id, self.settings.kafka.partitions)
        keys, client = self.store.keys, self.store.client
        action = self.settings.actions.names[0]
        client.hset(
            keys.user(partition, user_id),
            mapping={"impressions": impressions, action: impressions // 3, "first_ts": FIRST_MS, "last_ts": LAST_MS},
        )
        for item_id, own in items.items():
            row = {"impressions": own, action: own // 2, "other:impressions": 7, f"other:{action}": 2}
            client.hset(keys.item(partition, item_id), mapping=row)


def publish_some(settings: Settings, client: redis.Redis, num_samples: int, num_users: int, num_items: int) -> Trained:
    """A first version, with counts of users and items."""
    trained = Trained(settings, client)
    trained.publish(num_samples, seed=1, num_users=num_users, num_items=num_items)
    for n in range(0, num_users, 7):
        trained.count(f"u{n}", {f"i{m}": m for m in range(0, num_items, 3)} if n < 14 else {}, n + 1)
    return trained


CONTEXT = {"gender": "F", "age": "25", "occupation": "3"}
ITEM = {"title": ["a", "b"], "year": "1990", "genres": ["x"], "decade": "1990s"}


class Http:
    """A client of a scorer."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._token = token

    def ask(
        self, path: str, given: object = None, method: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of an answer; given bytes are sent as they are, whatever else as JSON."""
        body = given if given is None or isinstance(given, bytes) else msgspec.json.encode(given)
        token = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        asked = urllib.request.Request(self.url + path, body, {**token, **headers}, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                status, said, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as exc:
            status, said, found = exc.code, exc.read(), exc.headers
        is_json = found["content-type"] == "application/json"
        return status, msgspec.json.decode(said) if is_json else said, {k.lower(): v for k, v in found.items()}

    def post(self, path: str, given: object) -> Any:
        """What is answered, which must be well."""
        status, said, _ = self.ask(path, given)
        assert status == 200, said
        return said

    def wait(self, path: str = "/readyz", seconds: float = 60) -> None:
        """Until it is answered well."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                status, said, _ = self.ask(path)
                if status == 200:
                    return
            except OSError as exc:
                said = exc
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


_PATIENT_S = 8.0
AS_DECLARED = {name: getattr(ServingSettings(), name) for name in ("timeout_s", "state_timeout_s")}
"""How long is waited for an answer, where that is what is measured."""


def with_serving(settings: Settings, **serving: object) -> Settings:
    """Settings whose scorer has a free port, and waits for a Redis that is there: a busy machine fails no test."""
    patient = dict.fromkeys(AS_DECLARED, _PATIENT_S)
    given = {"port": free_port(), "refresh_s": 0.05, **patient, **serving}
    return msgspec.structs.replace(settings, serving=msgspec.structs.replace(settings.serving, **given))


def asked_for(num_items: int, user: str = "u1", **more: object) -> dict[str, object]:
    """A request of items i0, i1, ..."""
    candidates = [{"item": f"i{n}", "features": ITEM} for n in range(num_items)]
    return {"user": user, "context": CONTEXT, "candidates": candidates, **more}
