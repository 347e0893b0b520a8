"""`python tests/benchmarks/codes.py`: how codes of samples are used, and how fast what they mean moves.

One pass of the stages without a broker (worker's stage, Redis, outbox, learner, publisher), so that codes are those
that the worker's stage made, by the frozen codebooks that were published when an impression passed. Told: perplexity
and dead codes; how many codes of the newest samples are others by the version before; how far their vectors lie from
those of that version, and how far a code of that version would be off if the newest decoded it, both as shares of the
vectors' spread over samples; how much shorter codes are than what they stand for; bytes of a user in Redis. What codes
are worth says `coldstream experiment NAME --histories`.
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

from learner.config import BY_SAMPLE
from learner.learned import Learned
from learner.learner import Learner
from learner.samples.columns import Samples
from learner.sif.frozen import FrozenTokenizer
from learner.sif.tokenizer import SampleTokenizer
from simulators.experiments.histories.arms import PASTS
from simulators.experiments.histories.past import tokenizer_of
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.settings import Settings, load_settings


class Pass(NamedTuple):
    """What came of it."""

    settings: Settings
    tokenizer: SampleTokenizer
    versions: list[dict[str, np.ndarray]]
    last: Samples
    user_bytes: float


def settings_of(log: Log, options: argparse.Namespace, url: str) -> Settings:
    """Effective settings."""
    crosses = [list(cross["fields"]) for cross in log.settings.get("crosses", ())]
    sif = {"crosses": crosses, "freeze_samples": options.freeze}
    model = {"fast": False, "deep": "sif", "history": "sif", "history_items": options.length, "sif": sif}
    model |= {"adapter": False, "num_masks": 0}
    history = {"name": "past", "actions": [PASTS[log.name].action], "length": options.length, "by": BY_SAMPLE}
    overrides = [f"redis.url={url}", f"learner.seed={options.seed}", "monitor.enabled=false"]
    return load_settings(None, {}, overrides, {**log.settings, "model": model, "histories": [history]})


def run_pass(log: Log, options: argparse.Namespace) -> Pass:
    """One pass, on a Redis of its own."""
    versions: list[dict[str, np.ndarray]] = []
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        settings = settings_of(log, options, server.url)
        run = Backtest(settings, BacktestSettings(publish_samples=5000), Path(folder), NOW_MS)
        learner: Learner = run.trainer.learner
        tokenizer, learn, last = tokenizer_of(learner), learner.learn, []

        def recorded(samples: Samples) -> Learned:
            learned = learn(samples)
            last[:] = [samples]
            if int(tokenizer.version) > len(versions):
                versions.append(tokenizer.frozen())
            return learned

        learner.learn = recorded  # type: ignore[method-assign]
        how = ReplaySettings(num_rows=options.events, seed=7)
        run.run(Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms).whole_log())
        client = redis.Redis.from_url(server.url)
        keys = client.scan_iter(match=f"{settings.redis.prefix}:*:u:*")
        user_bytes = float(np.mean([client.memory_usage(key, samples=0) for key in keys]))
    return Pass(settings, tokenizer, versions, last[0], user_bytes)


def of_codes(passed: Pass) -> dict[str, Any]:
    """How the codes are used, and how much shorter they are than what they stand for."""
    tokenizer, settings = passed.tokenizer, passed.settings
    usage, sif = tokenizer.codebooks.usage(), settings.model.sif
    bits = tokenizer.num_slots * sif.levels * sif.code_bits
    found = {
        "slots": tokenizer.num_slots,
        "bits": bits,
        "ratio": 32 * settings.model.dim * (len(settings.fields) + 2 + len(sif.crosses)) / bits,
        "perplexity": usage.perplexity_TM.mean().item(),
        "perplexity_min": usage.perplexity_TM.min().item(),
        "dead": usage.dead_TM.mean().item(),
        "versions": len(passed.versions),
        "user_bytes": passed.user_bytes,
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
    parser.add_argument("--length", type=int, default=50, help="entries of the history")
    parser.add_argument("--freeze", type=int, default=20_000, help="samples between two frozen versions")
    options = parser.parse_args(arguments)
    passed = run_pass(chosen_log(options, options.events), options)
    report = {"L": options.length, "seed": options.seed, **of_codes(passed)}
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in report.items()}))


if __name__ == "__main__":
    main()
