"""A log as a stream: every variant, what each part brings by cohort, what it comes to, what the adapter learned."""

from collections.abc import Iterator, Sequence

import numpy as np

from simulators.experiments.reporting.findings import StreamReport, findings
from simulators.experiments.reporting.markdown import extent, figure, joined, made_with, signed, table, with_interval
from simulators.experiments.stream.cohorts import ALL, COLD
from simulators.experiments.stream.judge import AUC, LOG_LOSS, RANK_UAUC, SERVED_AUC, UAUC, Compared, Judge
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variants import ID_DROPOUT, WHOLE, Contrast, contrasts

_MORE = {UAUC: "UAUC", RANK_UAUC: "UAUC of the rank score", LOG_LOSS: "log-loss", SERVED_AUC: "AUC as served"}
_TO_WHOLE = "rival", "whole"


def compared_of(experiment: StreamExperiment, judge: Judge, rivals: Sequence[str]) -> StreamReport:
    """All comparisons that there are results for.

    Args:
        experiment: whose they are.
        judge: has its results.
        rivals: names of those that are no variants.
    """
    wanted = list(contrasts([name for name in rivals if name in judge.names]))
    wanted += [Contrast("whole", name, WHOLE) for name in judge.names if name not in (WHOLE, *rivals)]
    found = [judge.compared(contrast) for contrast in wanted]
    num_rows = experiment.recording.header.replay["num_rows"]
    compared = [each for each in found if each is not None]
    return StreamReport(experiment.log, experiment.task, num_rows, len(experiment.truth), compared)


def report(
    of: StreamReport,
    others: Sequence[StreamReport],
    judge: Judge,
    results: Sequence[StreamResult],
    weights: str,
    command: str,
) -> str:
    """What is shown, in Markdown: figures, AUC by cohort, what comes of it, weights.

    Args:
        of: what was compared.
        others: the same of other logs and tasks, where there are some.
        judge: has the figures.
        results: what they were made of.
        weights: what the adapter learned, in Markdown.
        command: which command made it.
    """
    parts = [
        f"### {_title(of)}",
        _made(results, command),
        _main(of, judge),
        "#### What each part brings, by cohort: AUC",
        *_by_cohort(of, judge, AUC),
        "#### What comes of it",
        findings([of, *others]),
        weights,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def more(of: StreamReport, judge: Judge) -> str:
    """Other figures by cohort, and differences by seed, in Markdown; arguments as of `report`."""
    parts = [f"### {_title(of)}: more by cohort"]
    for name, title in _MORE.items():
        parts += [f"#### What each part brings, by cohort: {title}", *_by_cohort(of, judge, name)]
    parts += ["#### By seed: difference of the AUC", _by_seed(of)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(of: StreamReport) -> str:
    return f"{of.log} as a stream, {of.task}: {extent(of.num_rows, of.num_impressions)}"


def _made(results: Sequence[StreamResult], command: str) -> str:
    if not results:
        return f"`{command}`: no results yet."
    seeds = sorted({result.seed for result in results if result.seed is not None})
    return (
        f"`{command}`\n\n{made_with(results)}; seeds {', '.join(map(str, seeds))} of "
        f"the learner, the same samples in the same order for all. Predicted, then learned (progressive), on final "
        f"labels; as served: predicted when the impression passed. Figures are means over seeds; differences with "
        f"the 95 % interval of a paired bootstrap over users, bold where it excludes zero. ID dropout hides each id "
        f"with probability {figure(ID_DROPOUT, 1)}."
    )


def _main(of: StreamReport, judge: Judge) -> str:
    to_whole = {each.variant: each for each in of.compared if each.part == "whole"}
    to_whole |= {each.against: each for each in of.compared if each.part == "rival"}
    rows = []
    for name in judge.names:
        values = judge.figures(name)
        cells = [values[ALL][each] for each in (AUC, UAUC, RANK_UAUC, LOG_LOSS, SERVED_AUC)]
        cold = [values.get(cohort, {}).get(AUC) for cohort in COLD]
        found = to_whole.get(name)
        rows.append([name, *map(figure, cells), *map(figure, cold), _less_whole(found)])
    head = ["", "AUC", "UAUC", "UAUC of rank", "log-loss", "AUC as served", *(f"AUC, {cohort}" for cohort in COLD)]
    return table([*head, f"AUC less that of *{WHOLE}*"], rows) if rows else ""


def _less_whole(found: Compared | None) -> str:
    if found is None or AUC not in found.differences[ALL]:
        return "-"
    difference = found.differences[ALL][AUC]
    if found.part == "rival":
        # That one is the product less the rival.
        difference = type(difference)(-difference.value, -difference.high, -difference.low)
    return with_interval(difference)


def _by_cohort(of: StreamReport, judge: Judge, name: str) -> Iterator[str]:
    compared = [each for each in of.compared if each.part != "whole"]
    for kind in ("users", "items"):
        cohorts = [cohort for cohort in judge.cohorts if cohort.startswith(kind)]
        cohorts = [ALL, *cohorts] if kind == "users" else cohorts
        cohorts = [cohort for cohort in cohorts if any(name in each.differences[cohort] for each in compared)]
        rows = []
        for each in compared:
            cells = [each.differences[cohort].get(name) for cohort in cohorts]
            rows.append([_named(each), *("-" if cell is None else with_interval(cell) for cell in cells)])
        sizes = {cohort: int(np.count_nonzero(judge.cohorts[cohort])) for cohort in cohorts}
        if rows:
            yield table(["", *(f"{cohort} ({sizes[cohort]:,})" for cohort in cohorts)], rows)


def _by_seed(of: StreamReport) -> str:
    rows = [
        [_named(each), *(joined([signed(value) for value in each.by_seed.get(cohort, [])]) for cohort in (ALL, *COLD))]
        for each in of.compared
        if each.part not in _TO_WHOLE
    ]
    return table(["", ALL, *COLD], rows) if rows else ""


def _named(each: Compared) -> str:
    return f"{each.part}: {each.variant} less {each.against}"
