"""`coldstream bench histories`: what histories cost in Redis, on their way, at the learner and at the scorer.

Redis: one pass of the stages without a broker, without histories and with them: microseconds in its calls per event
(as Redis itself counts them; on a quiet machine only), bytes of a user, bytes of a sample on its way. Models: the
samples of a recording, each block learned by all of them in turns, and then single requests of one user and many
candidates, likewise; the parts of `coldstream experiment NAME --histories`, which says what they bring, beside the fast
part and DCN-V2 without histories.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import redis
import torch
from chosen_log import add_log_options, chosen_log

from learner.learner import Learner
from learner.samples.columns import Samples, decode
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from simulators.experiments.histories.arms import PASTS, arms, history_of
from simulators.experiments.stream.recorded import Recording, obtain
from simulators.experiments.stream.variant import BLOCK, Variant, with_deep
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.settings import load_settings

_OF_ARMS = "fast", "fast, mean of {L}", "dnn", "dnn, din of {L}", "dnn, dmt of {L}", "dnn, sim of {L}"
_OF_TOKENS = "sif of {L}", "sif, items of {L}", "dnn, sif of {L}"
_PLAIN = {"fast": False, "adapter": False, "num_masks": 0}
_MICRO_BATCH = 256


class Passed(NamedTuple):
    """One pass."""

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

        def recorded(samples: Samples) -> Any:
            blocks.append(samples.encode())
            return learn(samples)

        run.trainer.learner.learn = recorded  # type: ignore[method-assign]
        how = ReplaySettings(num_rows=num_rows, seed=seed)
        run.run(Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms).whole_log())
        client = redis.Redis.from_url(server.url)
        calls = client.info("commandstats")["cmdstat_evalsha"]
        keys = client.scan_iter(match=f"{settings.redis.prefix}:*:u:*")
        users = [client.memory_usage(key, samples=0) for key in keys]
    num_samples = sum(len(decode(block, settings.recipe.layout)) for block in blocks)
    sample_bytes = sum(map(len, blocks)) / num_samples
    return Passed(calls["usec"] / len(run.records), float(np.mean(users)), sample_bytes)


class Timed:
    """A model, and what it took.

    Args:
        variant: what it is.
        recording: of the samples that it is given.
    """

    def __init__(self, variant: Variant, recording: Recording) -> None:
        self.name = variant.name
        self.recipe = variant.recipe(recording.settings.recipe, 7)
        self.learner = Learner(self.recipe)
        self.learner.warm_up()
        self._given = variant.given(self.learner)
        self._served = ServingModel(self.recipe)
        self.learn_us: list[float] = []
        """Per sample, of each block."""
        self.score_ms: list[float] = []
        """Of each request."""
        self.last: Samples | None = None

    def learn(self, block: Samples) -> None:
        """Learn a block."""
        self.last = samples = self._given(block)
        began = time.thread_time()
        self.learner.learn(samples)
        self.learn_us.append((time.thread_time() - began) / len(samples) * 1e6)

    def publish(self) -> None:
        """Hand everything to the model that scores."""
        take_changed(self.learner)
        self._served.load(encode_snapshot(self.learner, None))

    def score(self, number: int, candidates: int) -> None:
        """One request: the history and state of one sample, the items of as many."""
        assert self.last is not None
        rows_B = self.last.rows_B[np.full(candidates, number % len(self.last))].copy()
        rows_B["kind"] = SampleKind.SHOWN
        others = np.random.default_rng(number).integers(len(self.last), size=candidates)
        rows_B["keys"][:, self.last.layout.item_column] = self.last.item_keys[others]
        one = self.last.slice(number % len(self.last), number % len(self.last) + 1)
        keys_M = np.tile(one.keys_M, candidates)
        request = Samples(self.last.layout, rows_B, keys_M, one.texts * candidates, self.last.entries_H)
        began = time.perf_counter()
        self._served.predict(request)
        self.score_ms.append((time.perf_counter() - began) * 1e3)


def variants_of(log: Log, length: int) -> Iterator[Variant]:
    """What is timed."""
    wanted = [name.format(L=length) for name in (*_OF_ARMS, *_OF_TOKENS)]
    yield from (arm.variant for arm in arms(PASTS[log.name], [length], 20_000) if arm.variant.name in wanted)
    yield Variant("dcnv2", with_deep(_MICRO_BATCH, **_PLAIN))


def timed(log: Log, options: argparse.Namespace, length: int, folder: Path) -> list[Timed]:
    """Models at one length: all learn the same blocks, and answer the same requests, in turns."""
    settings = load_settings(environment={}, defaults=log.settings)
    settings = msgspec.structs.replace(settings, histories=(history_of(PASTS[log.name], length),))
    recording = obtain(settings, log, ReplaySettings(num_rows=options.events), folder, lambda what: None)
    models = [Timed(variant, recording) for variant in variants_of(log, length)]
    for block in recording.blocks(BLOCK):
        if len(block) == BLOCK:
            for model in models:
                model.learn(block)
    for model in models:
        model.publish()
    for number in range(options.requests):
        for model in models:
            model.score(number, options.candidates)
    return models


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="coldstream bench histories", description=__doc__)
    add_log_options(parser)
    parser.add_argument("--events", type=int, default=20_000, help="rows of the log")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50], help="entries of the history")
    parser.add_argument("--requests", type=int, default=200, help="that are scored")
    parser.add_argument("--candidates", type=int, default=100, help="of a request")
    parser.add_argument("--only", choices=["redis", "models"], help="one of both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    log = chosen_log(options, options.events)
    torch.set_num_threads(1)

    def tell(report: dict[str, Any]) -> None:
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in report.items()}
        print(json.dumps(rounded) if options.json else rounded, flush=True)

    for length in options.lengths:
        if options.only != "models":
            without = run_pass(log, options.events, options.seed, [])
            history = msgspec.to_builtins(history_of(PASTS[log.name], length))
            passed = run_pass(log, options.events, options.seed, [history])
            for name in Passed._fields:
                tell({"L": length, "of": name, "without": getattr(without, name), "with": getattr(passed, name)})
        if options.only != "redis":
            with tempfile.TemporaryDirectory() as folder:
                for model in timed(log, options, length, Path(folder)):
                    # The first blocks find empty tables and cold caches.
                    half = model.learn_us[len(model.learn_us) // 2 :]
                    p50, p99 = np.percentile(model.score_ms, [50, 99])
                    said = {"learn_us": float(np.median(half)), "score_p50_ms": float(p50), "score_p99_ms": float(p99)}
                    tell({"L": length, "model": model.name, **said})


if __name__ == "__main__":
    main()
