"""`coldstream bench ablation`: what each part of the model is worth, and rivals, all on the very same samples.

A log is run through a backtest once, and all that it learns is recorded; each variant then predicts and learns those
samples in their order. Figures are progressive, on matured labels; `served AUC` is that of what was predicted when an
impression passed. Intervals: paired bootstrap over users of the difference to the whole model, 95 %.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from chosen_log import add_log_options, chosen_log
from quality import variants
from quality.report import figures_of, markdown, mean_of, result
from rich.console import Console

from simulators.experiments.stream import rivals, vowpal
from simulators.experiments.stream.figures import Said, Truth
from simulators.experiments.stream.recorded import Recording, columns_of, obtain
from simulators.experiments.stream.variant import run
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from stream.command.doctor import versions
from stream.settings import Settings, load_settings


class Recordings:
    """The samples that variants learn, recorded when they are first asked for.

    Args:
        settings: effective settings.
        log: what is recorded.
        how: how it is replayed.
        folder: where recordings are kept.
        console: where it is said what is done.
    """

    def __init__(self, settings: Settings, log: Log, how: ReplaySettings, folder: Path, console: Console) -> None:
        self._log, self._how, self._folder, self._console = log, how, folder, console
        join = settings.join
        settles = {
            variants.AS_IS: join.settle_ms,
            variants.UNSETTLED: 0,
            variants.SETTLED: join.settle_ms or join.attribution_ms,
        }
        self._settings = {
            name: msgspec.structs.replace(settings, join=msgspec.structs.replace(join, settle_ms=settle_ms))
            for name, settle_ms in settles.items()
        }
        self._known: dict[int, Recording] = {}
        self._truths: dict[int, Truth] = {}

    def recording(self, name: str) -> Recording:
        """One of `quality.variants`' recordings."""
        settings = self._settings[name]
        settle_ms = settings.join.settle_ms
        if settle_ms not in self._known:
            with self._console.status("reading") as status:
                self._known[settle_ms] = obtain(settings, self._log, self._how, self._folder, status.update)
        return self._known[settle_ms]

    def truth(self, name: str, num_replicates: int) -> Truth:
        """Its impressions."""
        recording = self.recording(name)
        settle_ms = recording.settings.join.settle_ms
        if settle_ms not in self._truths:
            truth = Truth(columns_of(recording), num_replicates)
            for other in self._truths.values():
                same = np.array_equal(other.user_keys_U, truth.user_keys_U) and len(other) == len(truth)
                assert same, "recordings of other users or impressions cannot be compared pair by pair"
            self._truths[settle_ms] = truth
        return self._truths[settle_ms]


def results(options: argparse.Namespace, recordings: Recordings, console: Console) -> Iterator[dict[str, Any]]:
    """Of every variant and rival that is wanted, as they come."""
    whole = None

    def figures(said: Said, of: str) -> dict[str, np.ndarray]:
        return figures_of(recordings.truth(of, options.replicates), said)

    for variant in variants.variants(recordings.recording(variants.AS_IS).settings.recipe):
        if variant.name != variants.WHOLE and not wanted(variant.name, options.only):
            continue
        by_seed, rates = [], []
        for seed in options.seeds:
            with console.status(f"{variant.name}, seed {seed}"):
                said, rate = run(variant, recordings.recording(variant.recording), seed)
                by_seed.append(figures(said, variant.recording))
                rates.append(rate)
        yield result(variant.name, by_seed, whole, rates)
        whole = mean_of(by_seed) if whole is None else whole
    for name, said, rate in of_rivals(options.only, recordings.recording(variants.AS_IS), console):
        yield result(name, [figures(said, variants.AS_IS)], whole, [rate])


def of_rivals(only: Sequence[str], recording: Recording, console: Console) -> Iterator[tuple[str, Said, float]]:
    """What each rival said, and samples/s."""
    if wanted(rivals.RIVER, only):
        with console.status(rivals.RIVER):
            said, rate = rivals.run_river(recording)
        yield rivals.RIVER, said, rate
    yield from _of_vowpal_wabbit([name for name in vowpal.VW if wanted(name, only)], recording, console)


def _of_vowpal_wabbit(
    names: Sequence[str], recording: Recording, console: Console
) -> Iterator[tuple[str, Said, float]]:
    if not names:
        return
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "samples.vw"
        try:
            with console.status("installing Vowpal Wabbit in an environment of its own"):
                python = vowpal.install_vw(Path(scratch) / "environment")
            vowpal.write_vw(recording, written)
            for name in names:
                with console.status(name):
                    said, rate = vowpal.run_vw(python, written, vowpal.VW[name], recording.header.num_samples)
                yield name, said, rate
        except vowpal.NotToBeHadError as exc:
            console.print(str(exc))


def wanted(name: str, only: Sequence[str]) -> bool:
    """Whether one of the patterns is found in a name; without any, all are."""
    return not only or any(re.search(pattern, name) for pattern in only)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench ablation", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="rows replayed")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="variants whose name has one of these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="of the learner; figures are means over them")
    parser.add_argument("--replicates", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="where recordings are kept, and found again")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--list", action="store_true", help="name the variants, and end")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too, as it comes")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    log = chosen_log(options, options.events)
    settings = load_settings(environment={}, overrides=options.set, defaults=log.settings)
    if options.list:
        print("\n".join([variant.name for variant in variants.variants(settings.recipe)] + [rivals.RIVER, *vowpal.VW]))
        return
    found = []
    with ExitStack() as stack:
        folder = options.recorded or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        recordings = Recordings(settings, log, ReplaySettings(num_rows=options.events), folder, console)
        for one in results(options, recordings, console):
            found.append(one)
            console.print(f"{one['name']}: AUC {one['auc']:.4f}, {one['samples_per_s']:,} samples/s", highlight=False)
            if options.markdown:
                options.markdown.write_text(markdown(found) + "\n", encoding="utf-8")
        num_impressions = len(recordings.truth(variants.AS_IS, options.replicates))
    table = markdown(found)
    console.print(f"\n{table}", highlight=False, markup=False, soft_wrap=True)
    if options.json:
        report = {"variants": found, "impressions": num_impressions, "seeds": options.seeds, "data": log.source}
        report |= {"replicates": options.replicates, "cores": os.cpu_count(), "versions": versions()}
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
