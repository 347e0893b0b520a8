"""`coldstream bench histories`: what histories cost in Redis, and what models make of them on the very same samples.

Redis: one pass of the stages without a broker, without histories and with them: microseconds in its calls per event
(as Redis itself counts them; on a quiet machine only), bytes of a user, bytes of a sample on its way. Quality: the
samples of the second pass, block by block as the learner took them, learned by each variant: AUC and UAUC when the
label comes, and as served; in all, of users with fewer than 10 impressions, and by how many entries the first history
had.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import redis
from chosen_log import add_log_options, chosen_log

from learner.learned import Learned
from learner.learner import Learner
from learner.metrics import auc, log_loss, uauc
from learner.samples.columns import Samples, decode
from learner.samples.kind import SampleKind
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.settings import Settings, load_settings

_LENGTHS = (0, 1, 5, 20, 50)
"""Lower bounds of the cohorts by the length of the first history."""
_COLD = 10
_MIN_SAMPLES = 500
_FAST = {"fast.history_items": 50, "fast.history_rate": 0.2}
_DEEP = {"model.deep": "dnn"}
VARIANTS: dict[str, dict[str, Any]] = {
    "fast": {},
    "fast, mean of 20": {"fast.history_items": 20},
    "fast, mean of 50": {"fast.history_items": 50},
    "fast, mean of 50, learns": _FAST,
    "+ DNN": _DEEP,
    **{f"+ DNN with {name}": {**_DEEP, "model.history": name} for name in ("mean", "din", "multi_din", "dmt", "sim")},
    "+ DNN with din, mean of 50, learns": {**_FAST, **_DEEP, "model.history": "din"},
}
"""Settings of each."""


class Passed(NamedTuple):
    """One pass."""

    settings: Settings
    blocks: list[bytes]
    """Samples, as the learner took them."""
    redis_us: float
    """Per event."""
    user_bytes: float
    sample_bytes: float


def run_pass(log: Log, num_rows: int, seed: int, histories: Sequence[dict[str, Any]]) -> Passed:
    """The whole log through the stages, on a Redis of its own."""
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        overrides = [f"redis.url={server.url}", f"learner.seed={seed}", "monitor.enabled=false"]
        settings = load_settings(None, {}, overrides, {**log.settings, "histories": histories})
        run = Backtest(settings, BacktestSettings(), Path(folder), NOW_MS)
        blocks: list[bytes] = []
        learn = run.trainer.learner.learn

        def recorded(samples: Samples) -> Learned:
            blocks.append(samples.encode())
            return learn(samples)

        run.trainer.learner.learn = recorded  # type: ignore[method-assign]
        how = ReplaySettings(num_rows=num_rows, seed=seed)
        run.run(Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms).whole_log())
        client = redis.Redis.from_url(server.url)
        calls = client.info("commandstats")["cmdstat_evalsha"]
        users = [
            client.memory_usage(key, samples=0) for key in client.scan_iter(match=f"{settings.redis.prefix}:*:u:*")
        ]
    num_samples = sum(len(decode(block, settings.recipe.layout)) for block in blocks)
    sample_bytes = sum(map(len, blocks)) / num_samples
    return Passed(settings, blocks, calls["usec"] / len(run.records), float(np.mean(users)), sample_bytes)


def figures(passed: Passed, changes: dict[str, Any]) -> dict[str, Any]:
    """What one variant comes to."""
    values = msgspec.to_builtins(passed.settings)
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    recipe = msgspec.convert(values, Settings, strict=False).recipe
    learner, columns = Learner(recipe), []
    for block in passed.blocks:
        samples = decode(block, recipe.layout)
        rows, learned = samples.rows_B, learner.learn(samples)
        sizes = rows["history_sizes"][:, 0]
        said = (learned.predictions_B, learned.ranks_B)
        columns.append((rows["kind"], rows["imp_key"], samples.user_keys, rows["user_counts"][:, 0], sizes, *said))
    kind, imp, user, count, size, p, rank = (np.concatenate(column) for column in zip(*columns, strict=True))
    y = np.isin(imp, imp[(kind == SampleKind.POSITIVE) | (kind == SampleKind.CORRECTION)]).astype(np.float64)
    found: dict[str, Any] = {}
    for name, of in (("", kind <= SampleKind.POSITIVE), ("served_", kind == SampleKind.SHOWN)):
        cold = of & (count < _COLD)
        found |= {f"{name}auc": auc(y[of], p[of]), f"{name}auc_cold": auc(y[cold], p[cold])}
        found |= {f"{name}uauc": uauc(y[of], rank[of], user[of]), f"{name}log_loss": log_loss(y[of], p[of])}
    base = kind <= SampleKind.POSITIVE
    for low, high in zip(_LENGTHS, (*_LENGTHS[1:], 1 << 16), strict=True):
        of = base & (size >= low) & (size < high)
        if of.sum() >= _MIN_SAMPLES:
            found[f"auc_{low}+"] = auc(y[of], p[of])
    return found


def history_of(text: str) -> dict[str, Any]:
    """`liked=like,share:decade`: name, actions, and the category's field, if there is one."""
    name, _, rest = text.partition("=")
    actions, _, by = rest.partition(":")
    return {"name": name, "actions": actions.split(","), "by": by}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="coldstream bench histories", description=__doc__)
    add_log_options(parser)
    parser.add_argument("--events", type=int, default=100_000, help="rows of the log")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--history", nargs="+", default=["liked=like:decade"], help="NAME=ACTION,...[:FIELD]")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="variants by name")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    histories = [{**history_of(text), "length": options.length} for text in options.history]
    log = chosen_log(options, options.events)
    for seed in options.seeds:
        without = run_pass(log, options.events, seed, [])
        passed = run_pass(log, options.events, seed, histories)
        for name in ("redis_us", "user_bytes", "sample_bytes"):
            report = {"seed": seed, "of": name, "without": getattr(without, name), "with": getattr(passed, name)}
            print(json.dumps(report) if options.json else report, flush=True)
        for name in options.only:
            report = {"seed": seed, "variant": name, **figures(passed, VARIANTS[name])}
            rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in report.items()}
            print(json.dumps(rounded) if options.json else rounded, flush=True)


if __name__ == "__main__":
    main()
