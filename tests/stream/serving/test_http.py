"""The scorer over HTTP, as a process: what it answers, what it refuses, and what it does while Redis is away."""

import http.client as http_client
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.certificates import write_certificates
from support.serving import CONTEXT, ITEM, LAST_MS, Http, Trained, asked_for, with_serving

from state_store.embedded.child import free_port
from state_store.embedded.redis import EmbeddedRedis
from state_store.rollout import RolloutStore
from stream.checks.finding import Level
from stream.checks.scorer import check_scorer
from stream.command.roles import Role, wait_until
from stream.partitioning import partition_of
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings


def test_scores_are_those_of_the_library(scorer: Http, live: Settings, client: redis.Redis) -> None:
    said = scorer.post("/v1/score", asked_for(30, ts=LAST_MS + 90_000))
    own = Scorer(live, client)
    own.refresh()
    scores = own.scores("u1", CONTEXT, [Candidate(f"i{n}", ITEM) for n in range(30)], ts=LAST_MS + 90_000)
    np.testing.assert_allclose([s["probability"] for s in said["scores"]], scores.predictions_B, atol=1e-6)
    np.testing.assert_allclose([s["rank"] for s in said["scores"]], scores.ranks_B, atol=1e-6)
    assert [s["item"] for s in said["scores"]] == [f"i{n}" for n in range(30)]
    assert len({s["imp_id"] for s in said["scores"]}) == 30
    assert len(set(scores.predictions_B.tolist())) > 10
    about = {name: said[name] for name in ("version", "variant", "task", "cohort", "degraded", "missing")}
    assert about == {
        "version": 1,
        "variant": "live",
        "task": "like",
        "cohort": "10-49",
        "degraded": False,
        "missing": {"items": 28},
    }


def test_what_is_unknown_is_cold_and_no_error(scorer: Http) -> None:
    given = {"user": "nobody", "candidates": ["nothing", {"item": "i1", "features": {"other": {"a": [1]}}}]}
    said = scorer.post("/v1/score", given)
    assert all(0 < s["probability"] < 1 for s in said["scores"])
    assert said["cohort"] == "0"
    assert said["missing"]["user"] is True
    assert said["missing"]["items"] == 2
    assert said["missing"]["features"] == dict.fromkeys([*CONTEXT, *ITEM], 2)
    assert scorer.post("/v1/score", {"user": "u1", "candidates": []})["scores"] == []


def test_rank_has_the_best_first_and_ties_as_asked(scorer: Http) -> None:
    scored = scorer.post("/v1/score", asked_for(20))["scores"]
    best = sorted(scored, key=lambda s: -s["rank"])[:5]
    ranked = scorer.post("/v1/rank", asked_for(20, n=5))["scores"]
    assert [s["item"] for s in ranked] == [s["item"] for s in best]
    same = [f"never{n}" for n in range(40)]
    said = scorer.post("/v1/rank", {"user": "u1", "context": CONTEXT, "candidates": same, "n": 40})["scores"]
    assert [s["item"] for s in said] == same
    assert len(scorer.post("/v1/rank", asked_for(3))["scores"]) == 3


def test_an_explanation_adds_up_and_tells_counts_norms_and_ages(scorer: Http, trained: Trained) -> None:
    asked = {"user": "u1", "item": "i1", "context": CONTEXT, "features": ITEM, "ts": LAST_MS + 90_000}
    said = scorer.post("/v1/explain", asked)
    assert said["logit"] == pytest.approx(sum(p["component"] * p["weight"] for p in said["parts"]), rel=1e-6)
    assert said["probability"] == pytest.approx(1 / (1 + np.exp(-said["logit"])), abs=1e-5)
    assert {"user", "item", "bias", "user.item"} <= {p["part"] for p in said["parts"]}
    assert said["user"]["counts"] == {"impressions": 12, "like": 4}
    assert said["user"]["norm"] == pytest.approx(trained.store.read_user(_partition(trained, "u1"), "u1").norm)
    assert said["user"]["norm_version"] == 1
    assert (said["user"]["last_age_s"], said["user"]["first_age_s"]) == (90, 150)
    assert said["item"]["counts"] == {"impressions": 47, "like": 22}
    assert said["item"]["first_age_s"] is None


def test_an_item_that_was_never_learned_is_served_by_its_content_and_that_is_said(
    scorer: Http, trained: Trained
) -> None:
    """All items have the same content, so none is more like it than another, and it is served by their mean."""
    known, new = (
        scorer.post("/v1/explain", {"user": "u1", "item": item, "context": CONTEXT, "features": ITEM})
        for item in ("i1", "never")
    )
    assert (known["content_made"], new["content_made"], new["alike"]) == (False, True, [])
    fast = trained.learner.fast
    assert fast is not None
    assert fast.starts is not None
    mean = trained.settings.content_start.weight_share * fast.starts[0].pool.look.mean_X[0]
    component = next(part["component"] for part in new["parts"] if part["part"] == "item")
    assert component == pytest.approx(mean, rel=1e-4)


def _partition(trained: Trained, user_id: str) -> int:
    return partition_of(user_id, trained.settings.kafka.partitions)


REFUSED = [
    (b"{", 400, "not JSON"),
    (b"", 400, "not JSON"),
    ({"user": 7, "candidates": []}, 422, r"$.user"),
    ({"candidates": []}, 422, "user"),
    ({"user": "u1", "candidates": [{"item": "i", "feature": {}}]}, 422, "feature"),
    ({"user": "u1", "candidates": ["i"], "context": {"age": {"years": 3}}}, 422, "features.age"),
    ({"user": "u1", "candidates": [{"item": "i", "features": {"genres": [1.5]}}]}, 422, "features.genres"),
    ({"user": "u1", "candidates": ["i"] * 201}, 413, "serving.max_candidates"),
    (b" " * 100_001, 413, "serving.max_body_bytes"),
]


@pytest.mark.parametrize(("path", "more"), [("/v1/score", {}), ("/v1/rank", {"n": 3})])
def test_what_is_refused_says_why(path: str, more: dict, scorer: Http) -> None:
    for given, status, said in REFUSED:
        found, body, _ = scorer.ask(path, {**given, **more} if isinstance(given, dict) else given)
        assert (found, said in body["error"]) == (status, True), (given if len(given) < 99 else "long", found, body)
    assert scorer.ask("/v1/score", {}, **{"Content-Encoding": "gzip"})[0] == 415
    assert scorer.ask("/v1/nothing", {})[0] == 404
    status, _, headers = scorer.ask("/v1/score")
    assert (status, headers["allow"]) == (405, "POST")
    assert scorer.ask("/v1/shown", {"imp_ids": ["a"]})[0] == 409
    assert scorer.post(path, asked_for(3))["version"] == 1, "it goes on"


def test_a_body_that_does_not_end_is_not_waited_for_for_ever(live: Settings, trained: Trained, tmp_path: Path) -> None:
    quick = with_serving(live, timeout_s=0.5, max_concurrent=2)
    with Role("serve", quick, tmp_path):
        http = Http(serving_url(quick.serving))
        http.wait("/v1/weights")
        hanging = []
        for _ in range(2):
            one = socket.create_connection(("127.0.0.1", quick.serving.port), 10)
            one.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            hanging.append(one)
        time.sleep(0.2)
        status, said, headers = http.ask("/v1/score", asked_for(3))
        assert (status, headers["retry-after"]) == (503, "1"), said
        assert "serving.max_concurrent" in said["error"]
        assert http.ask("/healthz")[0] == 200
        for one in hanging:
            answer = one.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503"), answer
            one.close()
        assert http.post("/v1/score", asked_for(3))["version"] == 1


def test_metrics_document_and_page(scorer: Http) -> None:
    scorer.post("/v1/score", asked_for(7))
    _, text, headers = scorer.ask("/metrics")
    assert headers["content-type"].startswith("text/plain")
    lines = text.decode().splitlines()
    assert any(line.startswith('coldstream_serving_requests_total{route="/v1/score",status="200"}') for line in lines)
    assert next(float(x.split()[1]) for x in lines if x.startswith("coldstream_serving_scored_total")) >= 7
    assert "coldstream_serving_weights_version 1.0" in lines
    document = scorer.post("/openapi.json", None)
    assert document["openapi"].startswith("3.1")
    operation = document["paths"]["/v1/score"]["post"]
    assert set(operation["responses"]) == {"200", "400", "401", "413", "422", "503"}
    named = set(_references(document))
    assert named
    assert named <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    _, page, headers = scorer.ask("/")
    assert headers["content-type"].startswith("text/html")
    assert b"/v1/score" in page
    assert b"http://" not in page
    assert b"https://" not in page


def _references(of: object) -> list[str]:
    if isinstance(of, dict):
        own = [of["$ref"]] if "$ref" in of else []
        return own + [found for value in of.values() for found in _references(value)]
    return [found for value in of for found in _references(value)] if isinstance(of, list) else []


def test_a_token_is_asked_for(live: Settings, trained: Trained, tmp_path: Path) -> None:
    guarded = with_serving(live, token="s3cr3t-token")
    with Role("serve", guarded, tmp_path) as role:
        url = serving_url(guarded.serving)
        nobody, somebody, friend = Http(url), Http(url, "s3cr3t-tokem"), Http(url, "s3cr3t-token")
        nobody.wait()
        for client in (nobody, somebody):
            for path in ("/v1/score", "/v1/weights", "/metrics", "/v2", "/v2/models/coldstream"):
                status, said, headers = client.ask(path, asked_for(1) if path == "/v1/score" else None)
                assert (status, headers["www-authenticate"]) == (401, "Bearer"), said
        assert friend.post("/v1/score", asked_for(1))["version"] == 1
        assert "s3cr3t" not in role.log.read_text()
        assert "s3cr3t" not in json.dumps(friend.ask("/openapi.json")[1])


def test_it_is_ready_only_with_weights_that_are_young_and_takes_new_ones(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    young = with_serving(settings, max_weights_age_s=5.0)
    with Role("serve", young, tmp_path) as role:
        http = Http(serving_url(young.serving))
        http.wait("/healthz")
        status, said, headers = http.ask("/readyz")
        assert (status, headers["retry-after"]) == (503, "1"), said
        status, said, headers = http.ask("/v1/score", asked_for(3))
        assert (status, headers["retry-after"]) == (503, "1"), said
        assert http.ask("/v1/weights")[0] == 503
        shop = Trained(young, client)
        now_ms = time.time_ns() // 1_000_000
        shop.publish(40, 1, now_ms=now_ms - 60_000)
        deadline = time.monotonic() + 60
        while http.ask("/v1/weights")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status, said, _ = http.ask("/readyz")
        assert status == 503
        assert "serving.max_weights_age_s" in said["error"]
        rollouts = RolloutStore(client, settings.redis.prefix)
        rollouts.update(lambda now: msgspec.structs.replace(now, hold="a look first"))
        http.wait("/readyz")
        rollouts.update(lambda now: msgspec.structs.replace(now, hold=""))
        wait_until(lambda: http.ask("/readyz")[0] == 503, "weights to be too old again", [role])
        assert http.post("/v1/score", asked_for(3))["version"] == 1, "it answers all the same"
        before = http.post("/v1/score", asked_for(5))
        shop.publish(40, 2, now_ms=time.time_ns() // 1_000_000)
        http.wait()
        after = http.post("/v1/score", asked_for(5))
        assert (before["version"], after["version"]) == (1, 2)
        assert [s["probability"] for s in after["scores"]] != [s["probability"] for s in before["scores"]]
        weights = http.post("/v1/weights", None)
        assert (weights["version"], weights["swaps"], weights["refused"]) == (2, 2, "")
        assert 0 <= weights["age_s"] < 60
        kept = http_client.HTTPConnection("127.0.0.1", young.serving.port)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b'{"alive":true}'
        began = time.monotonic()
        role.stop()
        kept.close()
        assert role.status == 0, role.log.read_text()[-2000:]
        assert time.monotonic() - began < 10


def test_while_redis_is_away_it_scores_from_the_weights_alone(live: Settings, tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(tmp_path / "redis", ("--save", "", "--appendonly", "yes", "--appendfsync", "always")) as server:
        # On a port of its own: beside the module's scorer, each would have some of the requests.
        there = with_serving(msgspec.structs.replace(live, redis=msgspec.structs.replace(live.redis, url=server.url)))
        with redis.Redis(port=server.port) as client, Role("serve", there, tmp_path) as role:
            shop = Trained(there, client)
            shop.publish(100, 1)
            shop.count("u1", {"i1": 40}, 12)
            http = Http(serving_url(there.serving))
            http.wait("/v1/weights")
            known = http.post("/v1/score", asked_for(4))
            assert (known["degraded"], known["cohort"]) == (False, "10-49")
            server.kill()
            for _ in range(5):
                said = http.post("/v1/score", asked_for(4))
                assert said["degraded"] is True
                assert all(0 < s["probability"] < 1 for s in said["scores"])
                assert http.post("/v1/explain", {"user": "u1", "item": "i1"})["degraded"] is True
            assert http.ask("/v1/weights")[0] == 200
            server.start()
            deadline = time.monotonic() + 90
            while http.post("/v1/score", asked_for(4))["degraded"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            shop.publish(100, 2)
            while http.post("/v1/score", asked_for(4))["version"] == 1:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert role.is_running
            _, text, _ = http.ask("/metrics")
            degraded = next(x for x in text.decode().splitlines() if x.startswith("coldstream_serving_degraded_total"))
            assert float(degraded.split()[1]) >= 10
            assert 'status="500"' not in text.decode()


def test_it_speaks_tls(live: Settings, trained: Trained, tmp_path: Path) -> None:
    files = write_certificates(tmp_path / "certificates")
    secured = with_serving(live, cert_file=str(files / "broker.pem"), key_file=str(files / "broker.pem"))
    with Role("serve", secured, tmp_path):
        url = serving_url(secured.serving)
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(files / "ca.pem"))
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{url}v1/weights", context=trusted, timeout=5) as answer:
                    assert json.loads(answer.read())["version"] == 1
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{url}healthz", timeout=5)
        [finding] = check_scorer(secured)
        assert (finding.level, "ready at https://" in finding.detail) == (Level.OK, True)


def test_doctor_tells_a_scorer_from_nobody_and_from_something_else(scorer: Http, live: Settings) -> None:
    def at(port: int) -> tuple[Level, str]:
        [finding] = check_scorer(
            msgspec.structs.replace(live, serving=msgspec.structs.replace(live.serving, port=port))
        )
        return finding.level, finding.detail

    level, said = at(int(scorer.url.rpartition(":")[2]))
    assert (level, "ready at" in said) == (Level.OK, True)
    level, said = at(free_port())
    assert (level, "coldstream serve" in said) == (Level.OK, True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: other.accept()[0].sendall(b"220 hello\r\n"), daemon=True).start()
        level, said = at(other.getsockname()[1])
    assert (level, "no scorer" in said) == (Level.DEGRADED, True), said
