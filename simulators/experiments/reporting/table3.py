"""Table 3 of the paper, and what lies behind it: by epoch, by cohort, with fields missing."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

import numpy as np

from simulators.experiments.offline.results import Results, RunResult
from simulators.experiments.offline.search import Plan, found
from simulators.experiments.reporting.compared import Compared, Judge, comparisons
from simulators.experiments.reporting.markdown import figure, joined, probability, signed, table, with_interval
from simulators.experiments.reporting.published import FUXICTR, PAPER

_NAMES = {"base": "base", "masks": "masks", "adapter": "adapter", "full": "AdaF²M²"}


def report(plan: Plan, results: Results, judge: Judge, command: str) -> tuple[str, list[Compared]]:
    """The tables in Markdown, and the comparisons that they show.

    Args:
        plan: whose runs are shown, as far as they are there.
        results: where they are.
        judge: compares them.
        command: which command made it.
    """
    compared = list(comparisons(plan, results, judge))
    parts = [
        "### Table 3: MovieLens-1M, random 6:2:2",
        _made(plan, results, command),
        _main(compared),
        "#### By epoch: test AUC, mean over seeds; the epoch that validation chose is in bold",
        _by_epoch(plan, results),
        "#### By cohort: how often user or item is in the training part",
        _by_cohort(compared),
        "#### With fields missing at test time: AUC",
        _dropped(plan, results),
        "#### The search: best validation AUC, and the epoch that had it",
        _search(plan, results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n", compared


def _of_variants(plan: Plan, results: Results) -> Iterator[tuple[str, str, list[RunResult]]]:
    for model in plan.models:
        for variant in plan.variants:
            runs = found(plan, results, model, variant)
            if runs:
                yield model, variant, runs


def _made(plan: Plan, results: Results, command: str) -> str:
    runs = [run for _, _, of_variant in _of_variants(plan, results) for run in of_variant]
    if not runs:
        return f"`{command}`: no runs yet."
    versions = runs[0].versions
    stands = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy") if name in versions)
    dates, devices = sorted({run.date for run in runs}), sorted({run.device for run in runs})
    grid = ", ".join(str(hyper) for hyper in plan.grid)
    return (
        f"`{command}`\n\n{stands}; {', '.join(devices)}; {' to '.join(sorted({dates[0], dates[-1]}))}; seeds "
        f"{', '.join(map(str, plan.seeds))}; at most {plan.common.epochs} epochs, "
        f"{plan.common.patience} behind the best by validation AUC. Search at seed {plan.seeds[0]} on the validation "
        f"part, the same for every variant: {grid}. Difference: mean over seeds, 95 % interval by paired bootstrap "
        "over users; bold where it excludes zero. p: DeLong's paired test, by seed."
    )


def _main(compared: Sequence[Compared]) -> str:
    head = ["model", "base", "with", "difference", "p", "UAUC", "log-loss", "paper", "FuxiCTR"]
    rows = []
    for each in compared:
        paper = PAPER.get(each.model)
        rows.append(
            [
                f"{each.model}, {_NAMES.get(each.variant, each.variant)}",
                figure(each.base_auc),
                figure(each.auc),
                with_interval(each.difference),
                joined([probability(of_seed.p) for of_seed in each.by_seed]),
                with_interval(each.uauc_difference),
                signed(each.log_loss_difference),
                joined([figure(value) for value in paper]) if paper else "-",
                figure(FUXICTR.get(each.model)),
            ]
        )
    return table(head, rows) if rows else ""


def _by_epoch(plan: Plan, results: Results) -> str:
    rows, length = [], 0
    for model, variant, runs in _of_variants(plan, results):
        by_epoch = zip_longest(*([epoch.test_auc for epoch in run.epochs] for run in runs))
        # An epoch that not every seed reached has no mean that could be compared.
        cells = [figure(float(np.mean(values))) if None not in values else "-" for values in by_epoch]
        for best in {run.best for run in runs}:
            cells[best] = f"**{cells[best]}**"
        length = max(length, len(cells))
        rows.append([f"{model}, {_NAMES[variant]}", *cells])
    head = ["model", *map(str, range(1, length + 1))]
    return table(head, [row + ["-"] * (len(head) - len(row)) for row in rows]) if rows else ""


def _by_cohort(compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    names = [cohort.name for cohort in compared[0].cohorts]
    samples = {cohort.name: cohort.samples for cohort in compared[0].cohorts}
    rows = []
    for each in compared:
        of_name = {cohort.name: cohort for cohort in each.cohorts}
        cells = [
            f"{figure(of_name[name].base_auc)} {with_interval(of_name[name].difference)}" if name in of_name else "-"
            for name in names
        ]
        rows.append([f"{each.model}, {_NAMES.get(each.variant, each.variant)}", *cells])
    head = ["model: base, difference", *(f"{name} ({samples[name]:,})" for name in names)]
    return table(head, rows)


def _dropped(plan: Plan, results: Results) -> str:
    rows: list[list[str]] = []
    shares: list[str] = []
    for model, variant, runs in _of_variants(plan, results):
        shares = list(runs[0].dropped)
        if shares:
            values = [figure(_mean(runs, lambda run, share=share: run.dropped[share])) for share in shares]  # type: ignore[misc]
            rows.append([f"{model}, {_NAMES[variant]}", *values])
    return table(["model", *(f"{float(share):.0%}" for share in shares)], rows) if rows else ""


def _mean(runs: Sequence[RunResult], of: Callable[[RunResult], float]) -> float:
    return float(np.mean([of(run) for run in runs]))


def _search(plan: Plan, results: Results) -> str:
    rows = []
    for model in plan.models:
        for variant in plan.variants:
            cells = []
            done = [results.find(run) for run in plan.searched(model, variant)]
            best = max((run.at_best.valid_auc for run in done if run is not None), default=0.0)
            for run in done:
                if run is None:
                    cells.append("-")
                    continue
                text = f"{figure(run.at_best.valid_auc)} ({run.best + 1})"
                cells.append(f"**{text}**" if run.at_best.valid_auc == best else text)
            if any(cell != "-" for cell in cells):
                rows.append([f"{model}, {_NAMES[variant]}", *cells])
    return table(["model", *map(str, plan.grid)], rows) if rows else ""
