"""`coldstream backtest`: log -> replay -> stages -> summary; of a world, also how far from the truth it is."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from simulators.logs.log import Log
from simulators.oracle import expect
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from simulators.runs.summary import build_summary
from simulators.world.judged import judge
from simulators.world.log import WorldLog
from state_store.embedded.redis import EmbeddedRedis
from stream.predictions.log import read_predictions
from stream.settings import Settings


def run_backtest(
    settings: Settings, log: Log, how: ReplaySettings, folder: Path, rounds: BacktestSettings | None = None
) -> dict[str, Any]:
    """Run, write `summary.json`; returns the summary.

    Args:
        settings: effective settings; with no `redis.url`, it brings a Redis of its own.
        log: what is replayed.
        how: how.
        folder: run folder.
        rounds: the backtest's own settings.
    """
    with ExitStack() as stack:
        if not settings.redis.url:
            url = stack.enter_context(EmbeddedRedis()).url
            settings = msgspec.structs.replace(settings, redis=msgspec.structs.replace(settings.redis, url=url))
        replay = Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms)
        run = Backtest(settings, rounds or BacktestSettings(), folder, NOW_MS)
        started = time.monotonic()
        run.run(replay.whole_log())
        seconds = time.monotonic() - started
        num_events = replay.num_events + 2 * settings.kafka.partitions
        expected = expect(run.records, settings.join, settings.actions, settings.tasks, settings.histories)
        summary = build_summary(
            settings,
            run.store,
            folder,
            expected,
            {
                "run": folder.name,
                "data": log.source,
                "log": log.name,
                "events_produced": num_events,
                "weights_version": run.manifest.version if run.manifest else 0,
                "events_per_second": round(num_events / seconds, 1),
                "seconds": round(seconds, 2),
                "seed": how.seed,
                "rows": replay.num_rows,
                "replay": msgspec.to_builtins(how),
            },
        )
    # Where labels are inverted on the way, the world's truth is none.
    if isinstance(log, WorldLog) and not how.drift_at:
        rows = log.stretches(num_rows=how.num_rows, from_ms=how.from_ms, to_ms=how.to_ms)
        summary["truth"] = judge(read_predictions(folder / "predictions"), rows)
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2))
    return summary
