"""As of when candidates are scored."""

import time

import numpy as np
import pytest
import redis
from support.serving import CONTEXT, ITEM, LAST_MS, Http, Trained

from state_store.chunks.refs import BlobRef
from state_store.config import JoinSettings
from state_store.weights import Manifest
from stream.serving.clock import asked_ms
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings

DAY_MS, MINUTE_MS = 86_400_000, 60_000
BASE = BlobRef("base", 1, "0" * 64)
JOIN = JoinSettings(window_ms=2 * MINUTE_MS, settle_ms=5 * MINUTE_MS, attribution_ms=60 * MINUTE_MS)


def published(ago_ms: int, behind_ms: int) -> Manifest:
    """Weights of so long ago, of events that were so old then."""
    created_ms = time.time_ns() // 1_000_000 - ago_ms
    return Manifest(
        version=1, epoch=1, created_ms=created_ms, base=BASE, base_version=1, learned_ts=created_ms - behind_ms
    )


@pytest.mark.parametrize("behind_ms", [0, 5 * MINUTE_MS, DAY_MS, DAY_MS + 60 * MINUTE_MS])
def test_what_runs_live_goes_by_the_wall_clock_however_old_its_weights_are(behind_ms: int) -> None:
    for ago_ms in (0, 30 * DAY_MS):
        found = asked_ms(None, published(ago_ms, behind_ms), JOIN)
        assert found == pytest.approx(time.time_ns() // 1_000_000, abs=5000)


@pytest.mark.parametrize("behind_ms", [DAY_MS + 70 * MINUTE_MS, 9000 * DAY_MS])
def test_a_replay_goes_by_its_events_and_goes_on(behind_ms: int) -> None:
    for ago_ms in (0, 3 * MINUTE_MS):
        manifest = published(ago_ms, behind_ms)
        assert asked_ms(None, manifest, JOIN) == pytest.approx(manifest.learned_ts + ago_ms, abs=5000)


def test_labels_that_are_waited_for_long_make_no_replay() -> None:
    patient = JoinSettings(window_ms=DAY_MS, settle_ms=0, attribution_ms=30 * DAY_MS)
    assert asked_ms(None, published(0, 31 * DAY_MS), patient) == pytest.approx(time.time_ns() // 1_000_000, abs=5000)
    assert asked_ms(None, published(0, 40 * DAY_MS), patient) < time.time_ns() // 1_000_000 - 39 * DAY_MS


def test_what_is_said_is_what_counts() -> None:
    for manifest in (None, published(0, 0), published(0, 9000 * DAY_MS)):
        assert asked_ms(LAST_MS, manifest, JOIN) == LAST_MS
    assert asked_ms(None, None, JOIN) == pytest.approx(time.time_ns() // 1_000_000, abs=5000)


def test_before_anything_is_learned_it_is_the_wall_clocks() -> None:
    manifest = Manifest(version=1, epoch=1, created_ms=5, base=BASE, base_version=1)
    assert asked_ms(None, manifest, JOIN) == pytest.approx(time.time_ns() // 1_000_000, abs=5000)


def test_how_long_ago_a_user_was_seen_decides(
    scorer: Http, live: Settings, trained: Trained, client: redis.Redis
) -> None:
    own = Scorer(live, client)
    own.refresh()
    candidates = [Candidate("i1", ITEM), Candidate("i2", ITEM)]
    soon, later = (own.score("u1", CONTEXT, candidates, ts=LAST_MS + after) for after in (1000, 30 * DAY_MS))
    assert np.abs(soon - later).min() > 1e-6
    asked = {"user": "u1", "item": "i1", "context": CONTEXT, "features": ITEM}
    told = [scorer.post("/v1/explain", {**asked, "ts": LAST_MS + after}) for after in (1000, 30 * DAY_MS)]
    assert [one["probability"] for one in told] == pytest.approx([soon[0], later[0]], abs=1e-6)
    assert [one["user"]["last_age_s"] for one in told] == [1, 30 * 86_400]
    parts = [own.explain("u1", "i1", CONTEXT | ITEM, ts=LAST_MS + after) for after in (1000, 30 * DAY_MS)]
    logits = [sum(part.component * part.weight for part in of) for of in parts]
    assert logits == pytest.approx([one["logit"] for one in told], abs=1e-6)
    # The samples that were learned are of 1970: whoever does not say a time asks as of a log that is replayed.
    unsaid = scorer.post("/v1/explain", asked)
    assert unsaid["user"]["last_age_s"] == 0
