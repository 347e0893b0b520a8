"""`coldstream bench rounded`: what rounding published values costs in AUC and log-loss, and saves in bytes.

A log is run through a backtest once, and what it learns is recorded. A learner learns that, and publishes every so many
samples; a scorer's copy per kind of value follows by what has changed, and predicts each block before it is learned.
Figures are those of `bench ablation`: on matured labels, of what was said when an impression passed (`served`), and of
what was said just before its label was learned. Intervals: paired bootstrap over users, 95 %.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table as Printed

from learner.config import Values
from learner.learner import Learner
from learner.metrics import log_loss
from learner.published.encoding import encode_snapshot, take_changed
from learner.samples.columns import Samples
from learner.snapshot import ServingModel
from simulators.experiments.stream.figures import Said, Truth
from simulators.experiments.stream.recorded import Recording, columns_of, obtain
from simulators.replay import ReplaySettings
from stream.command.doctor import versions
from stream.settings import load_settings

KINDS: tuple[Values, ...] = get_args(Values)
_LEARNER = "learner"
"""What the learner itself said, which is always up to date."""


class Copies:
    """A scorer's copy for each kind of value.

    Args:
        recording: whose settings the models have.
    """

    def __init__(self, recording: Recording) -> None:
        self.learner = Learner(recording.settings.recipe)
        self._models = {kind: ServingModel(recording.settings.recipe) for kind in KINDS}
        self._is_first = True
        self.delta_bytes = dict.fromkeys(KINDS, 0)

    def publish(self) -> None:
        """Have every copy take in what has changed."""
        changed = take_changed(self.learner)
        for kind, model in self._models.items():
            messages = [*encode_snapshot(self.learner, None if self._is_first else changed, kind)]
            model.load(messages)
            self.delta_bytes[kind] += sum(map(len, messages))
        self._is_first = False

    def base_bytes(self) -> dict[str, int]:
        """Of a full snapshot, as it is now."""
        return {kind: sum(map(len, encode_snapshot(self.learner, None, kind))) for kind in KINDS}

    def say(self, samples: Samples) -> dict[str, Said]:
        """What each says of samples before they are learned, and the learner as it learns them."""
        said = {}
        for kind, model in self._models.items():
            scores = model.predict(samples)
            said[kind] = Said(scores.predictions_B, scores.ranks_B)
        own = self.learner.learn(samples)
        return {_LEARNER: Said(own.predictions_B, own.ranks_B), **said}


def measure(recording: Recording, every: int, num_replicates: int) -> dict[str, Any]:
    """Figures of each kind; `every`: samples from one publish to the next."""
    copies, waiting = Copies(recording), 0
    copies.publish()
    said: dict[str, list[Said]] = {name: [] for name in (_LEARNER, *KINDS)}
    for block in recording.blocks(recording.settings.learner.block):
        for name, one in copies.say(block).items():
            said[name].append(one)
        waiting += len(block)
        if waiting >= every:
            copies.publish()
            waiting = 0
    truth = Truth(columns_of(recording), num_replicates)
    whole = {
        name: truth.scores(Said(np.concatenate([o.predictions_T for o in of]), np.concatenate([o.ranks_T for o in of])))
        for name, of in said.items()
    }
    served = {name: truth.auc(scores.served_N) for name, scores in whole.items()}
    bases = copies.base_bytes()
    results = []
    for name, scores in whole.items():
        low, high = np.quantile((served[name] - served["float32"])[1:], [0.025, 0.975])
        is_served_N = np.isfinite(scores.served_N)
        results.append(
            {
                "values": name,
                "served_auc": float(served[name][0]),
                "less_than_float32": float(served[name][0] - served["float32"][0]),
                "low": float(low),
                "high": float(high),
                "auc": float(truth.auc(scores.predictions_N)[0]),
                "served_log_loss": log_loss(truth.labels_N[is_served_N], scores.served_N[is_served_N]),
                "log_loss": log_loss(truth.labels_N, scores.predictions_N),
                "base_bytes": bases.get(name, 0),
                "delta_bytes": copies.delta_bytes.get(name, 0),
            }
        )
    return {"results": results, "impressions": len(truth), "samples_per_publish": every}


def show(found: dict[str, Any]) -> Printed:
    """A table with a row for each kind."""
    printed = Printed(title=f"{found['impressions']:,} impressions, a publish every {found['samples_per_publish']:,}")
    for name in ("values", "served AUC", "- float32", "95 %", "AUC", "served log-loss", "log-loss", "base", "deltas"):
        printed.add_column(name, justify="right")
    for r in found["results"]:
        printed.add_row(
            r["values"],
            f"{r['served_auc']:.5f}",
            f"{r['less_than_float32']:+.5f}",
            f"{r['low']:+.5f} to {r['high']:+.5f}",
            f"{r['auc']:.5f}",
            f"{r['served_log_loss']:.5f}",
            f"{r['log_loss']:.5f}",
            f"{r['base_bytes']:,}",
            f"{r['delta_bytes']:,}",
        )
    return printed


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench rounded", description=__doc__)
    add_log_options(parser)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the log")
    parser.add_argument("--every", type=int, default=2000, help="samples from one publish to the next")
    parser.add_argument("--replicates", type=int, default=200, help="resampled sets of users")
    parser.add_argument("--set", action="append", default=[], help="settings, as SECTION.NAME=VALUE")
    parser.add_argument("--recorded", type=Path, help="folder for the recording; else it is made anew")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    log, console = chosen_log(options, options.rows), Console(stderr=True)
    settings = load_settings(environment={}, defaults=log.settings, overrides=options.set)
    how = ReplaySettings(num_rows=options.rows)
    with tempfile.TemporaryDirectory() as own:
        folder = options.recorded or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        recording = obtain(settings, log, how, folder, console.print)
        found = measure(recording, options.every, options.replicates)
    console.print(show(found))
    if options.json:
        report = {**found, "log": log.name, "rows": options.rows, "cores": os.cpu_count(), "versions": versions()}
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
