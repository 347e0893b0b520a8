"""What the monitor costs the learner: the same samples with and without it, in turns, in one process."""

import json
import tempfile
import time
from pathlib import Path

import torch

from learner.learner import Learner
from learner.sample import Sample, decode_samples
from simulators import movielens, synthetic
from simulators.backtest import Backtest, BacktestSettings
from simulators.replay import ReplaySettings, iter_whole_log, plan_replay
from state_store.client import connect
from state_store.embedded import EmbeddedRedis
from state_store.outbox import Outbox
from stream.monitor.meter import Meter
from stream.prediction_log import PredictionLog, item_mean_baseline
from stream.settings import Settings, load_settings

_NUM_RATINGS = 100_000
_TURN = 6400
"""Samples that one side learns before it is the other's turn."""
_NOW_MS = 4_102_444_800_000


def samples_of(settings: Settings, folder: Path) -> list[Sample]:
    """Joined samples of a replay, without learning."""
    try:
        data = movielens.load()
    except movielens.DataError:
        data = synthetic.generate(_NUM_RATINGS, seed=7)
    plan = plan_replay(data, ReplaySettings(num_ratings=_NUM_RATINGS))
    backtest = Backtest(settings, BacktestSettings(), folder, _NOW_MS)
    backtest.ingest(iter_whole_log(data, plan, settings.kafka.partitions, settings.join))
    outbox = Outbox(connect(settings.redis), settings.redis.prefix, settings.kafka.partitions)
    entries = outbox.read({}, max_entries=1 << 20).entries
    return [sample for entry in entries for sample in decode_samples(entry.payload)]


class Side:
    """A learner and its prediction log, with or without a meter."""

    def __init__(self, settings: Settings, folder: Path, *, metered: bool) -> None:
        self._learner = Learner(settings.model, settings.learner, settings.fields, len(settings.actions.names))
        self._log = PredictionLog(folder, keep=1)
        self._meter = Meter(settings.monitor, len(settings.fields)) if metered else None
        self._size = settings.learner.micro_batch
        self.seconds = 0.0

    def learn(self, samples: list[Sample]) -> None:
        """As the trainer does, with a flush at the end as at a checkpoint."""
        started = time.perf_counter()
        for at in range(0, len(samples), self._size):
            batch = samples[at : at + self._size]
            learned = self._learner.learn(batch)
            popularity_B = item_mean_baseline(learned.counts_BC[:, learned.counts_BC.shape[1] // 2 :])
            self._log.append([(0, 0, sample) for sample in batch], learned.predictions_B, popularity_B, 0)
            if self._meter is not None:
                self._meter.observe(batch, learned, popularity_B, 0, time.time_ns() // 1_000_000)
        self._log.flush(1)
        if self._meter is not None:
            for bucket in self._meter.cut(time.time_ns() // 1_000_000):
                bucket.encode()
        self.seconds += time.perf_counter() - started


def main(_: list[str] | None = None) -> None:
    """Print both sides' samples per second and their ratio."""
    torch.set_num_threads(1)
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        settings = load_settings(environment={}, overrides=[f"redis.url={server.url!r}"])
        samples = samples_of(settings, Path(folder) / "run")
        sides = [Side(settings, Path(folder) / str(n), metered=bool(n)) for n in range(2)]
        for turn, at in enumerate(range(0, len(samples), _TURN)):
            for side in sides if turn % 2 else sides[::-1]:
                side.learn(samples[at : at + _TURN])
    plain, metered = (side.seconds for side in sides)
    found = {
        "samples": len(samples),
        "samples_per_second": round(len(samples) / plain),
        "samples_per_second_monitored": round(len(samples) / metered),
        "overhead_share": round(metered / plain - 1, 4),
        "microseconds_per_sample": round((metered - plain) / len(samples) * 1e6, 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
