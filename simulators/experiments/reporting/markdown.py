"""Tables in Markdown."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from simulators.experiments.statistics.bootstrap import Interval


class Dated(Protocol):
    """A result that says what it stands on."""

    @property
    def date(self) -> str:
        """When it was made."""

    @property
    def versions(self) -> dict[str, str]:
        """Of what it was made with."""


def made_with(results: Sequence[Dated]) -> str:
    """Versions of the first, and the first and last date, of at least one result."""
    versions, dates = results[0].versions, sorted({result.date for result in results})
    names = [name for name in ("python", "torch", "numba", "numpy", "river") if name in versions]
    stands = ", ".join(f"{name} {versions[name]}" for name in names)
    return f"{stands}; {' to '.join(sorted({dates[0], dates[-1]}))}"


def extent(num_rows: int, num_impressions: int) -> str:
    """How much of a log one pass was over.

    >>> extent(0, 1200)
    'all rows, 1,200 impressions, one pass'
    """
    rows = f"first {num_rows:,} rows" if num_rows else "all rows"
    return f"{rows}, {num_impressions:,} impressions, one pass"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are figures.

    >>> print(table(["model", "AUC"], [["fm", ".79"]]))
    | model | AUC |
    |---|--:|
    | fm | .79 |
    """
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figure(value: float | None, places: int = 4) -> str:
    """A figure below 1 without its leading zero; a dash for none.

    >>> figure(0.81264), figure(None)
    ('.8126', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{places}f}"
    return text[1:] if text.startswith("0.") else text


def signed(value: float | None) -> str:
    """A difference with its sign.

    >>> signed(-0.0012), signed(0.0)
    ('-.0012', '+.0000')
    """
    if value is None or math.isnan(value):
        return "-"
    return ("-" if value < 0 else "+") + figure(abs(value))


def with_interval(found: Interval) -> str:
    """A difference and its interval; in bold if the interval excludes zero.

    >>> with_interval(Interval(0.002, 0.001, 0.003))
    '**+.0020** (+.0010 to +.0030)'
    """
    value = signed(found.value)
    return f"{f'**{value}**' if found.excludes_zero else value} ({signed(found.low)} to {signed(found.high)})"


def probability(p: float) -> str:
    """A p value.

    >>> probability(0.03), probability(1e-9)
    ('.030', '<.001')
    """
    return "<.001" if p < 0.001 else figure(p, 3)


def joined(values: Sequence[Any]) -> str:
    """Several, in one cell."""
    return " / ".join(str(value) for value in values)
