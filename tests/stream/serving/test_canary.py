"""Who is served what by a scorer as a process: newest and stable weights, arms, a revert, and who may decide it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.serving import CONTEXT, ITEM, Http, Trained, asked_for, with_serving

from learner.snapshot import ServingModel, encode_snapshot
from state_store.embedded.redis import EmbeddedRedis
from state_store.rollout import Decision, RolloutStore
from state_store.weights import WeightStore
from stream.arms.settings import ArmSettings
from stream.command.roles import Role
from stream.rollout.assignment import place_of
from stream.serving.address import serving_url
from stream.serving.lineup.lineup import Lineup
from stream.serving.packing import Candidate, Packing
from stream.serving.scorer import packed_reads
from stream.serving.web.http import Given, RefusedError
from stream.serving.web.rollout import RolloutRoutes
from stream.settings import Settings, load_settings

USERS = [f"v{n}" for n in range(60)]
ARMS = (
    ArmSettings(name="rival", prefix="test_canary_rival", percent=15),
    ArmSettings(name="still", version=1, percent=15),
    ArmSettings(name="mirrored", prefix="test_canary_rival", percent=15, mirror=True),
    ArmSettings(name="nowhere", prefix="test_canary_nowhere", percent=10),
)


class Shop:
    """Three versions of weights, the second one stable, and those of a rival; with each, its blob."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings, self.client = settings, client
        self.weights = WeightStore(client, settings.redis.prefix)
        self.rollouts = RolloutStore(client, settings.redis.prefix)
        self.models: dict[str | int, ServingModel] = {}
        self.own = Trained(settings, client)
        for seed in (1, 2, 3):
            self.publish(seed)
        self.rollouts.update(lambda r: r.decide(Decision(1, "promote", 2, "a test", "test"), stable=2))
        renamed = msgspec.structs.replace(settings.redis, prefix=ARMS[0].prefix)
        rival = Trained(msgspec.structs.replace(settings, redis=renamed), client)
        rival.publish(200, 9, now_ms=time.time_ns() // 1_000_000)
        self.models["rival"] = model_of(rival)

    def publish(self, seed: int) -> None:
        self.own.publish(200, seed, now_ms=time.time_ns() // 1_000_000)
        manifest = self.weights.latest()
        assert manifest is not None
        self.models[manifest.version] = model_of(self.own)


def model_of(trained: Trained) -> ServingModel:
    model = ServingModel(trained.settings.recipe)
    model.load(encode_snapshot(trained.learner, None))
    return model


@pytest.fixture(scope="module")
def shop(redis_server: EmbeddedRedis) -> Iterator[Shop]:
    own = ["redis.prefix=test_canary", "kafka.partitions=2", "join.time_users=1", "publish.full_every=1"]
    own += ["publish.keep_every_s=0"]
    settings = load_settings(environment={}, overrides=own, given={"redis.url": redis_server.url})
    with redis.Redis(port=redis_server.port) as client:
        yield Shop(with_serving(settings, canary_share=0.5, arms=ARMS, workers=2), client)


@pytest.fixture(scope="module")
def scorer(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with Role("serve", shop.settings, Path(tmp_path_factory.mktemp("canary"))):
        http = Http(serving_url(shop.settings.serving))
        http.wait()
        until(lambda: [arm["version"] for arm in http.ask("/v1/rollout")[1]["arms"]] == [1, 1, 1, 0])
        until(lambda: any(http.post("/v1/score", asked_for(1, user))["canary"] for user in USERS))
        yield http


def until(met: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def by_hand(shop: Shop, model: str | int, user: str, count: int = 8) -> list[float]:
    """What a model says of candidates of a user of whom nothing is known."""
    packing, candidates = Packing(shop.settings), [Candidate(f"i{n}", ITEM) for n in range(count)]
    items, nothing = [c.item_id for c in candidates], packed_reads(shop.settings).nothing(count)
    now_ms = time.time_ns() // 1_000_000
    samples = packing.samples(now_ms, user, items, packing.columns(CONTEXT, candidates), nothing)
    said: list[float] = shop.models[model].predict(samples).predictions_B.tolist()
    return said


def test_everybody_is_served_what_their_place_says_bit_for_bit(shop: Shop, scorer: Http) -> None:
    seen = set()
    for user in USERS:
        said = scorer.post("/v1/score", asked_for(8, user))
        place = place_of(shop.settings.serving, user)
        arm = place.arm.name if place.arm is not None and place.arm.name != "nowhere" else ""
        canary = place.canary
        served: str | int = {"rival": "rival", "still": 1}.get(arm, 3 if canary else 2)
        other = "rival" if arm == "mirrored" else 2 if canary else None
        assert (said["variant"], said["canary"]) == (arm or "live", canary)
        assert said["version"] == (1 if served == "rival" else served)
        assert said["other_version"] == {"rival": 1, 2: 2, None: 0}[other]
        assert [s["probability"] for s in said["scores"]] == by_hand(shop, served, user)
        others = [s.get("other") for s in said["scores"]]
        assert others == ([None] * 8 if other is None else by_hand(shop, other, user))
        assert scorer.post("/v1/rank", asked_for(8, user, n=3))["version"] == said["version"], "sticky"
        seen.add((arm, canary, place.arm is None))
    assert len(seen) == 6, "all places, and the arm without weights among the others"
    assert len({tuple(by_hand(shop, model, "v0")) for model in shop.models}) == 4


def test_the_rollout_is_shown_changed_and_refused(shop: Shop, scorer: Http) -> None:
    _, now, _ = scorer.ask("/v1/rollout")
    assert (now["stable"], now["pinned"], now["hold"], now["canary_share"]) == (2, 0, "", 0.5)
    assert [d["what"] for d in now["decisions"]] == ["promote"]
    json = {"Content-Type": "application/json"}
    hold = {"hold": "a look first", "why": "a test", "by": "anna"}
    status, held, _ = scorer.ask("/v1/rollout", {**hold, "revision": now["revision"]}, "PUT", **json)
    assert (status, held["hold"], held["decisions"][-1]["by"]) == (200, "a look first", "anna")
    assert shop.rollouts.read().hold == "a look first"
    refused = [
        ({**hold, "revision": now["revision"]}, json, 409, "read it anew"),
        ({"pinned": 77, "why": "x"}, json, 409, "version 77 is not kept; kept are [1, 2, 3]"),
        ({"hold": ""}, json, 422, "why"),
        ({"stable": 3, "why": "x"}, json, 422, "stable"),
        (hold, {"Content-Type": "text/plain"}, 415, "application/json"),
        (hold, {**json, "Host": "evil.example"}, 403, "serving.token"),
    ]
    for given, headers, status, said in refused:
        found, body, _ = scorer.ask("/v1/rollout", given, "PUT", **headers)
        assert (found, said in body["error"]) == (status, True), (given, body)
    status, after, _ = scorer.ask("/v1/rollout", {"hold": "", "why": "seen"}, "PUT", **json)
    assert (status, after["hold"], after["decisions"][-1]["what"]) == (200, "", "release")
    assert scorer.ask("/v1/rollout", {}, "POST", **json)[0] == 405
    _, document, _ = scorer.ask("/openapi.json")
    assert set(document["paths"]["/v1/rollout"]) == {"get", "put"}
    assert "post" in document["paths"]["/v1/rollback"]


def test_a_way_back_is_taken_by_all_users_outside_arms(shop: Shop, scorer: Http) -> None:
    json = {"Content-Type": "application/json"}
    status, now, _ = scorer.ask("/v1/rollback", {"why": "clicks fell"}, "POST", **json)
    assert (status, now["pinned"], now["decisions"][-1]["what"]) == (200, 2, "rollback")
    outside = [user for user in USERS if place_of(shop.settings.serving, user).arm is None]
    canary = next(user for user in outside if place_of(shop.settings.serving, user).canary)
    until(lambda: scorer.post("/v1/score", asked_for(1, canary))["version"] == 2)
    for user in outside:
        said = scorer.post("/v1/score", asked_for(8, user))
        assert (said["version"], said["canary"], said["other_version"]) == (2, False, 0)
        assert [s["probability"] for s in said["scores"]] == by_hand(shop, 2, user)
    scorer.ask("/v1/rollout", {"pinned": 0, "why": "well again"}, "PUT", **json)
    until(lambda: scorer.post("/v1/score", asked_for(1, canary))["version"] == 3)


def test_scores_that_are_no_numbers_are_reverted_at_once_and_nobody_sees_one(shop: Shop, scorer: Http) -> None:
    fast = shop.own.learner.fast
    assert fast is not None
    before = {name: value.copy() for name, value in fast.dense.state().items()}
    fast.dense.restore({name: value * np.nan if value.dtype.kind == "f" else value for name, value in before.items()})
    manifest = shop.weights.latest()
    assert manifest is not None
    blob = shop.weights.put("no-numbers", encode_snapshot(shop.own.learner, None))
    broken = msgspec.structs.replace(manifest, version=4, base=blob, base_version=4, deltas=(), since=None)
    assert shop.weights.publish(broken)
    fast.dense.restore(before)

    def reverted() -> bool:
        for user in USERS:
            said = scorer.post("/v1/score", asked_for(8, user))
            assert all(s["probability"] is not None for s in said["scores"])
            assert said["version"] != 4
        return bool(shop.rollouts.read().pinned)

    until(reverted)
    after = shop.rollouts.read()
    assert (after.pinned, [d.what for d in after.decisions[-2:]]) == (2, ["revert", "hold"])
    assert after.hold == "scorer: version 4 gave a score that is no number"


WHO = [
    # serving.host, serving.token, the host that was asked for, whether it may decide.
    ("127.0.0.1", "", "localhost:8901", True),
    ("::1", "", "[::1]:8901", True),
    ("127.0.0.1", "", "evil.example:8901", False),
    ("0.0.0.0", "", "127.0.0.1:8901", False),
    ("shop.example", "", "shop.example", False),
    ("0.0.0.0", "secret", "shop.example", True),
]


@pytest.mark.parametrize(("host", "token", "asked_for_as", "may"), WHO)
def test_without_a_token_nobody_but_this_machine_decides(
    host: str, token: str, asked_for_as: str, may: bool, settings: Settings, client: redis.Redis
) -> None:
    settings = with_serving(settings, host=host, token=token)
    routes = RolloutRoutes(settings.serving, Lineup(settings, client))
    headers = {"host": asked_for_as, "content-type": "application/json; charset=utf-8"}
    ways = [
        (routes.change, b'{"hold":"wait","why":"a look","by":"x"}', 200),
        (routes.roll_back, b'{"why":"a look"}', 409),
    ]
    for way, body, status in ways:
        if may and status == 200:
            assert b'"hold":"wait"' in asyncio.run(way(Given("/", headers, body))).body
            continue
        with pytest.raises(RefusedError) as refused:
            asyncio.run(way(Given("/", headers, body)))
        assert refused.value.status == (status if may else 403)
