"""Readers of histories and tokens of past samples: figures, what a history brings, and to whom, in Markdown."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from simulators.experiments.histories.arms import Arm
from simulators.experiments.reporting.markdown import extent, figure, made_with, table, with_interval
from simulators.experiments.stream.judge import AUC, LOG_LOSS, RANK_UAUC, SERVED_AUC, Compared, Judge
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variants import Contrast

_FIGURES = {AUC: "AUC", RANK_UAUC: "UAUC of rank", LOG_LOSS: "log-loss", SERVED_AUC: "AUC as served"}


class HistoriesReport(msgspec.Struct, frozen=True):
    """What was found on one log."""

    log: str
    task: str
    num_rows: int
    """0: all."""
    num_impressions: int
    figures: dict[str, dict[str, dict[str, float]]]
    """Model -> cohort -> figure -> mean over seeds."""
    compared: list[Compared]
    """Each model less itself without a history; other tokens less SIF's."""

    @property
    def file(self) -> str:
        """Name that its files begin with."""
        return f"histories-{self.log}"


def compare(
    experiment: StreamExperiment, judge: Judge, arms: Sequence[Arm], of_tokens: Iterable[Contrast]
) -> HistoriesReport:
    """All comparisons that there are results for.

    Args:
        experiment: whose they are.
        judge: has its results.
        arms: what was compared.
        of_tokens: what else is.
    """
    wanted = [Contrast("history", arm.variant.name, arm.against) for arm in arms if arm.against]
    found = [judge.compared(contrast) for contrast in (*wanted, *of_tokens)]
    return HistoriesReport(
        experiment.log,
        experiment.task,
        experiment.recording.header.replay["num_rows"],
        len(experiment.truth),
        {name: judge.figures(name) for name in judge.names},
        [each for each in found if each is not None],
    )


def report(of: HistoriesReport, judge: Judge, results: Sequence[StreamResult], command: str) -> str:
    """What is shown, in Markdown.

    Args:
        of: what was compared.
        judge: has the figures.
        results: what they were made of.
        command: which command made it.
    """
    title = f"### {of.log}, {of.task}: {extent(of.num_rows, of.num_impressions)}"
    if not results:
        return f"{title}\n\n`{command}`: no results yet.\n"
    parts = [title, _made(results, command), _figures(of, judge), *_by_length(of, judge)]
    return "\n\n".join(parts) + "\n"


def _made(results: Sequence[StreamResult], command: str) -> str:
    return (
        f"`{command}`\n\n{made_with(results)}. All learn the same samples in one "
        "order; predicted, then learned, on final labels; as served: predicted when the impression passed. Means over "
        "the seeds that a model has; differences at the seeds that both have, with the 95 % interval of a paired "
        "bootstrap over users, bold where it excludes zero."
    )


def _figures(of: HistoriesReport, judge: Judge) -> str:
    less = {each.variant: each for each in of.compared if each.part == "history"}
    rows = []
    for name in judge.names:
        values = of.figures[name]["all"]
        found = less.get(name)
        differences = [
            "-"
            if found is None or each not in found.differences["all"]
            else with_interval(found.differences["all"][each])
            for each in (AUC, RANK_UAUC)
        ]
        seeds = str(len(judge.seeds(name)))
        rows.append([name, seeds, *(figure(values[each]) for each in _FIGURES), *differences])
    head = ["", "seeds", *_FIGURES.values(), "AUC less that without a history", "UAUC of rank less that"]
    return table(head, rows)


def _by_length(of: HistoriesReport, judge: Judge) -> Iterator[str]:
    titles = {
        "history": "#### What a history brings, by how long it was: difference of the AUC",
        "tokens": "#### Other tokens, other mixing, less SIF at the same length: difference of the AUC",
    }
    sizes = {name: int(chosen_N.sum()) for name, chosen_N in judge.cohorts.items()}
    for part, title in titles.items():
        compared = [each for each in of.compared if each.part == part]
        cohorts = [name for name in sizes if any(AUC in each.differences[name] for each in compared)]
        if not compared:
            continue
        rows = [
            [
                each.variant if part == "history" else f"{each.variant} less {each.against}",
                *(
                    "-" if AUC not in each.differences[name] else with_interval(each.differences[name][AUC])
                    for name in cohorts
                ),
            ]
            for each in compared
        ]
        yield title
        yield table(["", *(f"{name} ({sizes[name]:,})" for name in cohorts)], rows)
