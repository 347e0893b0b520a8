"""Runs of a test -> what is said of them: JSON, and a table like AdaF2M2's Table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.box import SIMPLE
from rich.table import Table

from simulators.abtest.analysis.difference import Difference, Z
from simulators.abtest.analysis.sequential import boundaries
from simulators.abtest.reporting.paper import TABLE_1
from simulators.abtest.verdict import (
    GROUPS,
    Verdict,
    arms_of,
    as_json,
    excluding_zero,
    labelled,
    needed_of,
    pooled_of,
    power_in,
)

_UNEVEN = 0.001
"""A p-value below this says that users were not split as was meant."""


class Run(msgspec.Struct, frozen=True):
    """One seed."""

    seed: int
    by_day: list[Verdict]
    """What could be said after each day of the test."""


def summary_of(runs: Sequence[Run], names: Mapping[str, str], effect: float = 0.0) -> dict[str, Any]:
    """Everything, as JSON.

    Args:
        runs: at least one.
        names: arm -> its file, the first arm first.
        effect: relative effect to say the users needed for; 0: none.
    """
    last = [run.by_day[-1] for run in runs]
    outside, number = excluding_zero(last)
    return {
        "arms": arms_of(names, last),
        **as_json(pooled_of(last)),
        "paper": TABLE_1,
        "seeds": [
            {"seed": run.seed, "users": one.users, "mismatch": one.mismatch, **as_json(one.differences)}
            for run, one in zip(runs, last, strict=True)
        ],
        "intervals": number,
        "intervals_excluding_zero": outside,
        "uneven_splits": sum(one.mismatch < _UNEVEN for one in last),
        "by_day": _by_day(runs),
        **({"users_needed": {"effect": effect, **needed_of(last, effect)}} if effect else {}),
        **({"power": {"effect": effect, **power_in(last, effect)}} if effect else {}),
    }


def _by_day(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What a look at the end of each day says of all users, beside the boundary that |z| has to exceed then."""
    found = []
    bounds = boundaries(len(runs[0].by_day))
    for day, bound in enumerate(bounds, start=1):
        of_all = pooled_of([run.by_day[day - 1] for run in runs])["all"]
        # By the interval, as the page shades it: of few worlds it is wider than the error says.
        crossed = {m: abs(d.difference) * Z > bound * (d.high - d.difference) > 0 for m, d in of_all.items()}
        found.append(
            {"day": day, "boundary": bound, "crossed": [metric for metric, is_so in crossed.items() if is_so]}
            | as_json({"all": of_all})
        )
    return found


def table_of(runs: Sequence[Run], title: str) -> Table:
    """Differences, with 95 % intervals; new, old and all users, each beside the paper's."""
    found = pooled_of([run.by_day[-1] for run in runs])
    table = Table(title=title, box=SIMPLE, padding=(0, 1))
    table.add_column("per user", no_wrap=True)
    for group in GROUPS:
        table.add_column(group, justify="right", no_wrap=True)
    for metric in found["all"]:
        table.add_row(labelled(metric), *(_cell(found[group].get(metric)) for group in GROUPS))
        if metric in TABLE_1["all"]:
            table.add_row("  in the paper", *(f"{100 * TABLE_1[group][metric]:+.3f}" for group in GROUPS), style="dim")
    return table


def _cell(found: Difference | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found.difference:+.2f} ± {100 * (found.high - found.difference):.2f}"
