"""`python tests/benchmarks/sif.py`: sample tokens beside item tokens and DIN, by length of the history.

Each arm is one pass of the stages without a broker: worker's stage, Redis, outbox, learner, publisher. So codes are
those that the worker's stage made, by the frozen codebooks that were published when an impression passed. The deep part
is alone, without masks and adapter, but for the fast part where it is asked for. Told: AUC and log-loss when the label
comes, AUC by how many entries the history had; of codes also perplexity, dead codes, and how many codes of the newest
samples are others by the version before; how far their vectors lie from those of that version, and how far a code of
that version would be off if the newest decoded it, both as shares of the vectors' spread over samples.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import redis
from chosen_log import add_log_options, chosen_log

from learner.learned import Learned
from learner.learner import Learner
from learner.metrics import auc, log_loss, uauc
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from learner.sif.frozen import FrozenTokenizer
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.settings import Settings, load_settings

_LENGTHS = (0, 1, 10, 20, 50)
_MIN_SAMPLES = 500
_COLD = 10
_PLAIN = {"adapter": False, "num_masks": 0, "hidden": [32]}
_NEVER = 1_000_000_000
ARMS: dict[str, dict[str, Any]] = {
    "DNN, no history": {"deep": "dnn"},
    "DIN": {"deep": "dnn", "history": "din"},
    "items": {"deep": "sif", "history": "sif", "sif": {"tokens": "items"}},
    "SIF, no history": {"deep": "sif", "history": "sif", "sif": {"freeze_samples": _NEVER}},
    "SIF": {"deep": "sif", "history": "sif"},
    "DNN with SIF": {"deep": "dnn", "history": "sif"},
    "DNN with items": {"deep": "dnn", "history": "sif", "sif": {"tokens": "items"}},
}
"""The model section of each."""


class Pass(NamedTuple):
    """What came of one arm."""

    settings: Settings
    learner: Learner
    columns: list[np.ndarray]
    versions: list[dict[str, np.ndarray]]
    last: Samples
    user_bytes: float


def settings_of(log: Log, options: argparse.Namespace, arm: str, length: int, url: str) -> Settings:
    """Effective settings of an arm."""
    model = {**_PLAIN, **ARMS[arm], "history_items": max(length, 1), "fast": options.fast}
    is_coded = model.get("history") == "sif" and model.get("sif", {}).get("tokens") != "items"
    if is_coded:
        crosses = [list(cross["fields"]) for cross in log.settings.get("crosses", ())]
        model["sif"] = {"crosses": crosses, "freeze_samples": options.freeze, **model.get("sif", {})}
    history = {"name": "past", "actions": options.actions, "length": 50, "by": "*" if is_coded else ""}
    overrides = [f"redis.url={url}", f"learner.seed={options.seed}", "monitor.enabled=false"]
    # Each impression is predicted once, before its label is learned.
    overrides += ["join.as_served=false", "join.settle_ms=0"]
    values = {**log.settings, "model": model, "histories": [history] if "history" in model else []}
    return load_settings(None, {}, overrides, values)


def run_arm(log: Log, options: argparse.Namespace, arm: str, length: int) -> Pass:
    """One pass, on a Redis of its own."""
    columns: list[tuple[np.ndarray, ...]] = []
    versions: list[dict[str, np.ndarray]] = []
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        settings = settings_of(log, options, arm, length, server.url)
        run = Backtest(settings, BacktestSettings(publish_samples=5000), Path(folder), NOW_MS)
        learner, last = run.trainer.learner, []
        learn = learner.learn

        def recorded(samples: Samples) -> Learned:
            rows, learned = samples.rows_B, learn(samples)
            sizes = rows["history_sizes"][:, 0] if samples.layout.histories else np.zeros(len(samples), int)
            said = rows["kind"], rows["imp_key"], samples.user_keys, rows["user_counts"][:, 0], sizes
            columns.append((*said, learned.predictions_B, learned.ranks_B))
            last[:] = [samples]
            tokenizer = learner.deep.dense.tokenizer if learner.deep is not None else None
            if tokenizer is not None and int(tokenizer.version) > len(versions):
                versions.append(tokenizer.frozen())
            return learned

        learner.learn = recorded  # type: ignore[method-assign]
        how = ReplaySettings(num_rows=options.events, seed=7)
        run.run(Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms).whole_log())
        client = redis.Redis.from_url(server.url)
        keys = client.scan_iter(match=f"{settings.redis.prefix}:*:u:*")
        user_bytes = float(np.mean([client.memory_usage(key, samples=0) for key in keys]))
    together = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Pass(settings, learner, together, versions, last[0], user_bytes)


def figures(passed: Pass) -> dict[str, Any]:
    """Quality of one arm."""
    kind, imp, user, count, size, p, rank = passed.columns
    y = np.isin(imp, imp[(kind == SampleKind.POSITIVE) | (kind == SampleKind.CORRECTION)]).astype(np.float64)
    base = kind <= SampleKind.POSITIVE
    cold = base & (count < _COLD)
    found = {"auc": auc(y[base], p[base]), "uauc": uauc(y[base], rank[base], user[base])}
    found |= {"log_loss": log_loss(y[base], p[base]), "auc_cold": auc(y[cold], p[cold])}
    for low, high in zip(_LENGTHS, (*_LENGTHS[1:], 1 << 16), strict=True):
        of = base & (size >= low) & (size < high)
        if of.sum() >= _MIN_SAMPLES:
            found[f"auc_{low}+"] = auc(y[of], p[of])
    return found | {"user_bytes": passed.user_bytes}


def of_codes(passed: Pass) -> dict[str, Any]:
    """How the codes are used, and how much shorter they are than what they stand for."""
    tokenizer = passed.learner.deep.dense.tokenizer if passed.learner.deep is not None else None
    if tokenizer is None or not passed.versions:
        return {}
    usage, settings = tokenizer.codebooks.usage(), passed.settings
    sif = settings.model.sif
    bits = tokenizer.num_slots * sif.levels * sif.code_bits
    found = {
        "slots": tokenizer.num_slots,
        "bits": bits,
        "ratio": 32 * settings.model.dim * (len(settings.fields) + 2 + len(sif.crosses)) / bits,
        "perplexity": usage.perplexity_TM.mean().item(),
        "perplexity_min": usage.perplexity_TM.min().item(),
        "dead": usage.dead_TM.mean().item(),
        "versions": len(passed.versions),
    }
    if len(passed.versions) > 1:
        newest, before = (FrozenTokenizer(of, settings.fields, sif) for of in passed.versions[:-3:-1])
        codes, former = newest.codes(passed.last), before.codes(passed.last)
        found["codes_changed"] = float((codes != former).mean())
        vectors = newest.decode(codes)
        spread = np.square(vectors - vectors.mean(0)).sum()
        found["moved"] = float(np.square(vectors - before.decode(former)).sum() / spread)
        found["moved_by_index"] = float(np.square(newest.decode(former) - before.decode(former)).sum() / spread)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_log_options(parser)
    parser.add_argument("--events", type=int, default=100_000, help="rows of the log")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--actions", nargs="+", default=["like"], help="feedback that makes the history")
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--freeze", type=int, default=10_000, help="samples between two frozen versions")
    parser.add_argument("--fast", action="store_true", help="with the fast part")
    parser.add_argument("--only", nargs="+", default=list(ARMS), help="arms by name")
    options = parser.parse_args(arguments)
    log = chosen_log(options, options.events)
    for arm in options.only:
        for length in [0] if "no history" in arm else options.lengths:
            passed = run_arm(log, options, arm, length)
            report = {"arm": arm, "L": length, "seed": options.seed, **figures(passed), **of_codes(passed)}
            rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in report.items()}
            print(json.dumps(rounded), flush=True)


if __name__ == "__main__":
    main()
