"""In words, made from the figures: where masks, adapter and gate lift cold users or cold items, and on which logs."""

from collections.abc import Iterator, Sequence

import msgspec

from simulators.experiments.reporting.markdown import signed
from simulators.experiments.statistics.bootstrap import Interval
from simulators.experiments.stream.cohorts import COLD, FINER_COLD
from simulators.experiments.stream.judge import AUC, SERVED_AUC, Compared

PARTS = {"masks": "masks", "adapter": "the adapter", "gate": "the fast part's gate"}
_FIGURES = {AUC: "AUC", SERVED_AUC: "AUC as served"}


class StreamReport(msgspec.Struct, frozen=True):
    """What was found on one log, for one task."""

    log: str
    task: str
    num_rows: int
    """0: all."""
    num_impressions: int
    compared: list[Compared]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.log} ({self.task})"

    @property
    def file(self) -> str:
        """Name that its files begin with."""
        return f"stream-{self.log}-{self.task}"


class _Cell(msgspec.Struct, frozen=True):
    """One comparison that all reports have."""

    variant: str
    against: str
    cohort: str
    figure: str
    found: tuple[Interval, ...]
    """In the order of the reports."""

    @property
    def lifts(self) -> bool:
        return all(each.low > 0 for each in self.found)

    @property
    def harms(self) -> bool:
        return all(each.high < 0 for each in self.found)


def findings(reports: Sequence[StreamReport]) -> str:
    """One paragraph for each part of the model.

    Args:
        reports: of different logs, or of different tasks of one.
    """
    if not reports:
        return ""
    names = " and ".join(report.name for report in reports)
    logs = len({report.log for report in reports})
    head = (
        f"On {names}. A lift is a difference of the AUC whose 95 % interval is above zero"
        + (" in each of them" if len(reports) > 1 else "")
        + f"; asked first for {' and '.join(COLD)}, then for their finer cohorts, both when the label is learned and "
        "as served. Each interval is by itself: of many, some exclude zero by chance, hardly on several logs at "
        "once. Differences are in the order of the logs."
        + ("" if logs > 1 else " **Only one log is here: what is said holds for it alone.**")
    )
    return "\n\n".join([head, *(_paragraph(part, name, reports) for part, name in PARTS.items())])


def _paragraph(part: str, name: str, reports: Sequence[StreamReport]) -> str:
    first, finer = (list(_cells(part, reports, cohorts)) for cohorts in (COLD, FINER_COLD))
    if not first:
        return f"**{name.capitalize()}**: no comparison is there in all of them."
    cells = [*first, *finer]
    configurations = len({(cell.variant, cell.against) for cell in cells})
    counted = (
        f"{configurations} configuration{'s' if configurations > 1 else ''}, {len(first)} and {len(finer)} comparisons"
    )
    if any(cell.lifts for cell in cells):
        lines = [f"**{name.capitalize()}**: a lift ({counted}):"]
        for asked, of in (("asked first", first), ("finer", finer)):
            lines += _listed(asked, [cell for cell in of if cell.lifts]) or [f"- {asked}: none"]
    else:
        lines = [f"**{name.capitalize()}**: a lift for cold users or cold items: **there is none** ({counted})."]
    lines += _listed("the opposite, the interval below zero", [cell for cell in cells if cell.harms])
    if len(reports) > 1:
        lines += [f"- {_alone(report.name, n, first)}" for n, report in enumerate(reports)]
    return "\n".join(lines)


def _cells(part: str, reports: Sequence[StreamReport], cohorts: Sequence[str]) -> Iterator[_Cell]:
    by_pair = [
        {(each.variant, each.against): each for each in report.compared if each.part == part} for report in reports
    ]
    for pair, compared in by_pair[0].items():
        others = [of.get(pair) for of in by_pair[1:]]
        for cohort in cohorts:
            for figure, title in _FIGURES.items():
                found = [
                    None if each is None else each.differences.get(cohort, {}).get(figure)
                    for each in (compared, *others)
                ]
                there = tuple(each for each in found if each is not None)
                if len(there) == len(reports):
                    yield _Cell(*pair, cohort, title, there)


def _listed(asked: str, cells: Sequence[_Cell]) -> list[str]:
    """A line for each configuration: cohorts, and the difference on each log."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        values = "; ".join(f"{signed(each.value)} ({signed(each.low)} to {signed(each.high)})" for each in cell.found)
        by_pair.setdefault((cell.variant, cell.against), []).append(f"{cell.cohort}, {cell.figure} {values}")
    return [
        f"- {asked}: *{variant}* less *{against}*: {', '.join(said)}" for (variant, against), said in by_pair.items()
    ]


def _alone(name: str, n: int, cells: Sequence[_Cell]) -> str:
    """How one log by itself has it."""
    above, below = (sum(test(cell.found[n]) for cell in cells) for test in (_is_above, _is_below))
    return f"{name} by itself has {above} of the first {len(cells)} above zero and {below} below."


def _is_above(found: Interval) -> bool:
    return found.low > 0


def _is_below(found: Interval) -> bool:
    return found.high < 0
