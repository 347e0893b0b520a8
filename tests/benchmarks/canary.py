"""`coldstream bench canary`: how often a canary takes back weights that are well, and how soon it does poisoned ones.

Samples of a real log, recorded as the join made them, are learned in their order; versions are published as they go,
users of the canary share are scored by the newest and by the stable version when their impressions pass, and the judge
hears of outcomes when the learner does. Nothing is poisoned in an A/A canary: one lasts from a promotion to the next.

From evenly spaced points of the log on, a copy of the learner is poisoned: `all`, every label of a stretch as long as
5 % of what was learned before is flipped; `few`, 5 % of the labels, drawn; `cold`, the labels of users with fewer than
10 impressions. Only what is learned is flipped, not what the judge hears: a label that is wrong for both misleads both.
Beside each poisoned copy, one that is spared and one that stays as it was tell what the poison does: by how much the
poisoned weights are worse than those of a learner without poison, and than the weights from before it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from canaries.harm import Beside
from canaries.lineage import Canary, Lineage, flipped
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table

from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from simulators.experiments.stream.recorded import Recording, obtain
from simulators.replay import ReplaySettings
from stream.command.doctor import versions
from stream.rollout.trial import COLD_BELOW
from stream.settings import Settings, load_settings

_BLOCK = 500
KINDS = ("all", "few", "cold")


def step(lineage: Lineage, canaries: list[Canary], block: Samples, learned: Samples) -> list[Canary]:
    """A block passes; returns the canaries that take the newest weights back.

    Args:
        lineage: learns.
        canaries: score and judge.
        block: what happened.
        learned: what is learned of it.
    """
    shown = block.take(block.rows_B["kind"] == int(SampleKind.SHOWN))
    for canary in canaries:
        if len(shown):
            canary.serve(shown)
        canary.hear(block)
    protected = frozenset().union(*(canary.rollout.protected for canary in canaries))
    published = lineage.learn(learned, protected)
    # A judge has a look after every block, and a kept version to begin with after the first publish.
    return [canary for canary in canaries if canary.decide()] if published or lineage.version else []


def wrong(kind: str, num_before: int, seed: int) -> Callable[[Samples, int], Samples]:
    """What poison makes of a block, which begins so many samples after the poisoning."""
    rng = np.random.default_rng(seed)

    def poisoned(block: Samples, at: int) -> Samples:
        if kind == "all":
            return flipped(block, np.full(len(block), at < num_before * 0.05))
        if kind == "few":
            return flipped(block, rng.random(len(block)) < 0.05)
        return flipped(block, block.rows_B["user_counts"][:, 0] < COLD_BELOW)

    return poisoned


def follow(beside: Beside, block: Samples) -> None:
    """A block passes those who only look on."""
    shown = block.take(block.rows_B["kind"] == int(SampleKind.SHOWN))
    if len(shown):
        beside.serve(shown)
    beside.hear(block)


class Poisoned:
    """Poisoned copies of a lineage.

    Args:
        settings: effective settings.
        options: of the command.
    """

    def __init__(self, settings: Settings, options: argparse.Namespace) -> None:
        self._settings, self._options = settings, options
        self._copy, self._well, self._before = (Lineage(settings, options.publish) for _ in range(3))
        self.runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}

    def run(self, lineage: Lineage, blocks: list[Samples], num_before: int, seed: int) -> None:
        """One run of each kind.

        Args:
            lineage: what is copied.
            blocks: what happens from now on; the first part is not poisoned, so that there is something stable.
            num_before: samples until the poisoning begins.
            seed: of salt and poison.
        """
        for kind in KINDS:
            self._copy.go_on_from(lineage)
            serving = msgspec.structs.replace(self._settings.serving, salt=f"poisoned {seed}")
            canary = Canary(self._settings, serving, self._copy)
            self.runs[kind].append(self._one(canary, blocks, wrong(kind, num_before, seed)))

    def _one(
        self, canary: Canary, blocks: list[Samples], poison: Callable[[Samples, int], Samples]
    ) -> dict[str, float]:
        well = self._options.before // _BLOCK
        outcomes, last_well, before_poison, beside = 0, 0, False, None
        for n, block in enumerate(blocks):
            if n == well:
                outcomes, last_well = canary.num_outcomes, self._copy.version
                self._well.go_on_from(self._copy)
                self._before.go_on_from(self._copy)
                beside = Beside(self._copy, self._well, self._before)
            is_poisoned = n >= well
            learned = poison(block, (n - well) * _BLOCK) if is_poisoned else block
            if beside is not None:
                follow(beside, block)
                self._well.learn(block, frozenset())
            if step(self._copy, [canary], block, learned):
                if is_poisoned:
                    break
                before_poison = True
                canary.release()
        taken = sum(count for version, count in canary.served_by.items() if version > last_well)
        return {
            "reverted": float(bool(canary.rollout.pinned)),
            "impressions_taken": taken,
            "outcomes": canary.num_outcomes - outcomes,
            "kept_good": float(0 < canary.rollout.stable <= last_well),
            "before_poison": float(before_poison),
            **(beside.worse() if beside is not None else {}),
        }


def blocks_of(recording: Recording, limit: int) -> Iterator[Samples]:
    """The samples of a recording, at most so many."""
    for n, block in enumerate(recording.blocks(_BLOCK)):
        if n * _BLOCK >= limit:
            return
        yield block


def measure(options: argparse.Namespace, settings: Settings, recording: Recording, console: Console) -> dict[str, Any]:
    """Both kinds of canaries, in one pass over the log."""
    lineage, poisoned = Lineage(settings, options.publish), Poisoned(settings, options)
    salts = [msgspec.structs.replace(settings.serving, salt=f"well {n}") for n in range(options.salts)]
    canaries = [Canary(settings, serving, lineage) for serving in salts]
    num_blocks = min(options.samples, recording.header.num_samples) // _BLOCK
    warm, length = options.warm_up // _BLOCK, (options.before + options.horizon) // _BLOCK
    starts = np.linspace(warm, max(num_blocks - length, warm), options.poisoned).astype(int).tolist()
    ahead: list[Samples] = []
    reverts: list[str] = []
    source = blocks_of(recording, options.samples)
    with console.status("") as status:
        for n in range(num_blocks):
            status.update(
                f"{n * _BLOCK:,} samples, {sum(c.num_trials for c in canaries)} canaries, {len(reverts)} reverts"
            )
            while len(ahead) <= (length if n in starts else 0) and (block := next(source, None)) is not None:
                ahead.append(block)
            if not ahead:
                break
            for _ in range(starts.count(n)):
                poisoned.run(lineage, ahead[:length], n * _BLOCK + options.before, n)
            block = ahead.pop(0)
            for canary in step(lineage, canaries if n >= warm else [], block, block):
                reverts.append(canary.rollout.decisions[-1].why)
                canary.release()
    return {
        "false_reverts": len(reverts),
        "aa_runs": sum(canary.num_trials for canary in canaries) + len(reverts),
        "alpha": settings.serving.canary_alpha,
        "why": reverts,
        **{f"poison_{kind}": summary(poisoned.runs[kind]) for kind in KINDS},
    }


def spread(runs: list[dict[str, float]], name: str) -> dict[str, float] | None:
    """Mean over runs, and its standard error."""
    values = [run[name] for run in runs if name in run]
    if len(values) < 2:
        return None
    return {"mean": float(np.mean(values)), "error": float(np.std(values, ddof=1) / len(values) ** 0.5)}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Of the runs of one kind of poison."""
    found = [run for run in runs if run["reverted"]]
    worse = {f"worse_than_{whom}": spread(runs, f"worse_than_{whom}") for whom in ("well", "before")}
    return worse | {
        "runs": len(runs),
        "reverted": len(found),
        "impressions_taken": median(run["impressions_taken"] for run in found) if found else None,
        "outcomes": median(run["outcomes"] for run in found) if found else None,
        "stable_was_well": sum(int(run["kept_good"]) for run in found),
        "reverted_before_poison": sum(int(run["before_poison"]) for run in runs),
    }


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="coldstream bench canary", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="rows of the log that are recorded")
    parser.add_argument("--samples", type=int, default=1 << 40, help="of them that are learned, at most")
    parser.add_argument("--warm-up", type=int, default=60_000, help="samples before the first canary")
    parser.add_argument("--publish", type=int, default=1_000, help="samples between two versions")
    parser.add_argument("--salts", type=int, default=12, help="ways to draw the canary share, judged side by side")
    parser.add_argument("--poisoned", type=int, default=20, help="runs of each kind of poison")
    parser.add_argument("--before", type=int, default=30_000, help="samples of such a run before it is poisoned")
    parser.add_argument("--horizon", type=int, default=50_000, help="and from then on")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="where recordings are kept, and found again")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    # Of its users each comes a few times, and many at once.
    parser.set_defaults(log="kuairand-pure")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options, console = parsed(arguments), Console(stderr=True)
    log = chosen_log(options, options.events)
    # Labels that settle later would be flipped by half.
    own = ["serving.canary_share=0.3", "join.settle_ms=0", "publish.full_every=5", *options.set]
    settings = load_settings(environment={}, overrides=own, defaults=log.settings)
    with ExitStack() as stack:
        folder = options.recorded or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with console.status("reading") as status:
            recording = obtain(settings, log, ReplaySettings(num_rows=options.events), folder, status.update)
        report = measure(options, settings, recording, console)
    printed = Table(title="canaries")
    for column in ("poison", "runs", "reverted", "impressions it took", "worse than well", "worse than before it"):
        printed.add_column(column, justify="left" if column == "poison" else "right")
    for kind in KINDS:
        told = report[f"poison_{kind}"]
        worse = [told["worse_than_well"], told["worse_than_before"]]
        of_worse = ("" if one is None else f"{one['mean']:+.4f} ± {one['error']:.4f}" for one in worse)
        printed.add_row(kind, *(str(told[name]) for name in ("runs", "reverted", "impressions_taken")), *of_worse)
    console.print(printed)
    console.print(f"{report['false_reverts']} false reverts in {report['aa_runs']} A/A canaries")
    if options.json:
        report |= {"data": log.source, "salts": options.salts, "cores": os.cpu_count(), "versions": versions()}
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
