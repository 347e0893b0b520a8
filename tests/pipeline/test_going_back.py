"""A learner that is told to go back: to a kept version's checkpoint, and on from there with what the outbox has."""

from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from state_store.rollout import Rewind
from state_store.weights import WeightStore
from stream.command.kept import Desk
from stream.command.roles import Role, wait_until
from stream.monitor.figures.bucket import WEIGHT
from stream.monitor.figures.cohorts import CohortScheme
from stream.monitor.history.history import HistoryReader
from stream.predictions.log import read_predictions
from stream.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def live(settings: Settings) -> Settings:
    publish = msgspec.structs.replace(
        settings.publish, full_every=1, interval_s=0.2, checkpoint_s=0.3, keep_versions=50, keep_every_s=0
    )
    return msgspec.structs.replace(settings, publish=msgspec.structs.replace(publish, keep_samples=100))


def told_of(client: redis.Redis, settings: Settings) -> float:
    """Impressions in the history of the newest run."""
    history = HistoryReader(client, settings.redis.prefix)
    buckets = history.read(history.runs()[-1])
    return sum(float(bucket.sums_CM[: CohortScheme(settings.monitor).num_users, WEIGHT].sum()) for bucket in buckets)


def test_a_learner_goes_back_and_learns_again_what_the_outbox_has(
    live: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    samples, weights = Samples(client, live), WeightStore(client, live.redis.prefix)
    desk = Desk(client, live.redis.prefix, "anna")
    with Role("learner", live, tmp_path) as learner:
        samples.put(200)
        wait_until(lambda: any(m.checkpoint and m.num_samples == 200 for m in weights.kept()), "200", [learner])
        then = next(m for m in weights.kept() if m.checkpoint and m.num_samples == 200)
        samples.put(300)
        # Behind the checkpoint of all, but for the last hundred.
        wait_until(lambda: samples.waiting() == 5, "300 more, and the trim behind them", [learner])
        desk.rollback(then.version, "the last were bad", learner=True)
        wait_until(lambda: weights.rollouts.read().rewind is None, "the way back", [learner])
        wait_until(lambda: samples.status().num_not_again == 200, "the last hundred", [learner])
        wait_until(lambda: samples.learned() == 500, "the last hundred", [learner])
        status = samples.status()
        assert (status.num_trained, status.num_missed) == (300, 0)
        samples.put(100)
        wait_until(lambda: samples.learned() == 600, "what came later", [learner])
        # Versions behind the way back have no checkpoint any more: their numbers are others' now.
        gone = [m.checkpoint for m in weights.kept() if then.version < m.version and m.epoch == then.epoch]
        assert set(gone) <= {0, then.checkpoint}
        wait_until(lambda: told_of(client, live) == 400, "the history", [learner])
        learner.kill()
        client.delete(samples.keys.learner_status)
        learner.start()
        wait_until(lambda: samples.version() > 0 and samples.status().num_trained == 400, "the same", [learner])
        # The page's figures are those of this way, too.
        wait_until(lambda: told_of(client, live) == 400, "the history", [learner])
    text = learner.log.read_text()
    assert "Traceback" not in text, text
    rollout = weights.rollouts.read()
    assert rollout.pinned == then.version
    assert "went back to checkpoint" in rollout.decisions[-1].why
    assert "of the 300 samples learned since" in rollout.decisions[-1].why
    log = read_predictions(tmp_path / "predictions")
    assert sorted(log["sequence"].to_list()) == [*range(1, 201), *range(401, 601)]
    assert (samples.status().num_not_again, samples.status().num_missed) == (200, 0)


def test_a_learner_that_cannot_go_back_stays_and_says_why(live: Settings, client: redis.Redis, tmp_path: Path) -> None:
    samples, weights = Samples(client, live), WeightStore(client, live.redis.prefix)
    with Role("learner", live, tmp_path) as learner:
        samples.put(100)
        wait_until(lambda: samples.learned() == 100, "100", [learner])
        for asked, why in ((Rewind(1, 1, "another"), "of another run folder"), (None, "is gone from")):
            folder = (tmp_path / "id").read_text().strip()
            rewind = asked or Rewind(1, 99, folder)
            weights.rollouts.update(lambda now, rewind=rewind: msgspec.structs.replace(now, rewind=rewind))
            wait_until(lambda: weights.rollouts.read().rewind is None, "an answer", [learner])
            assert why in weights.rollouts.read().decisions[-1].why
        assert samples.learned() == 100
    assert "Traceback" not in learner.log.read_text()
