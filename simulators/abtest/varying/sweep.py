"""Parameters of a world, varied one by one, and the test run in each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from simulators.abtest.arm import Arm
from simulators.abtest.reporting.kept import KeptRuns
from simulators.abtest.reporting.report import Run
from simulators.abtest.run import TrialSettings
from simulators.abtest.seeds import run_seeds
from simulators.abtest.verdict import as_json, pooled_of
from simulators.world.parameters import Parameters, WorldError

Told = Callable[[str, float, int], None]
"""Is told parameter, value and seed."""


class Sweep(msgspec.Struct, frozen=True):
    """What is varied."""

    parameter: str
    """Dotted, as in the world's TOML file; several that have the same value are joined by a plus sign."""
    values: tuple[float, ...]


class Varied(msgspec.Struct, frozen=True):
    """A kind of world: one parameter has another value."""

    parameter: str
    value: float
    world: Parameters


class Point(msgspec.Struct, frozen=True):
    """The test in worlds of one kind."""

    parameter: str
    value: float
    runs: list[Run]

    def as_json(self) -> dict[str, Any]:
        """Parameter, value, number of worlds, and the differences by group and metric."""
        last = [run.by_day[-1] for run in self.runs]
        users = sum(sum(one.users["all"]) for one in last)
        about = {"parameter": self.parameter, "value": self.value, "worlds": len(last), "users": users}
        return about | as_json(pooled_of(last))


def parse_sweep(text: str) -> Sweep:
    """What is varied, from how it is typed.

    Raises:
        WorldError: it is not of that form.

    >>> parse_sweep("users.activity.sigma+items.popularity.sigma=1.5,3")
    Sweep(parameter='users.activity.sigma+items.popularity.sigma', values=(1.5, 3.0))
    """
    parameter, _, values = text.partition("=")
    try:
        found = tuple(float(value) for value in values.split(","))
    except ValueError as exc:
        raise WorldError(f"--vary {text!r:.80}: expected PARAMETER=VALUE,VALUE, as in lists.noise=0,0.1") from exc
    return Sweep(parameter, found)


def varied(parameters: Parameters, parameter: str, value: float) -> Parameters:
    """The world with a value of its own.

    Args:
        parameters: of the world.
        parameter: dotted; several, joined by a plus sign.
        value: of each.

    Raises:
        WorldError: there is no such number, or the value is out of bounds.

    >>> varied(Parameters(), "users.turnover+items.turnover", 0.5).items.turnover
    0.5
    """
    tree: dict[str, Any] = msgspec.to_builtins(parameters)
    for path in parameter.split("+"):
        *sections, name = path.split(".")
        section: Any = tree
        for one in sections:
            section = section.get(one) if isinstance(section, dict) else None
        if not isinstance(section, dict) or type(section.get(name)) not in (int, float):
            raise WorldError(f"--vary {path}: a world has no such number; `coldstream world show` prints what it has")
        if type(section[name]) is int and not value.is_integer():
            raise WorldError(f"--vary {path}={value:g}: expected a whole number")
        section[name] = type(section[name])(value)
    try:
        return msgspec.convert(tree, Parameters)
    except (msgspec.ValidationError, ValueError) as exc:
        raise WorldError(f"--vary {parameter}={value:g}: {exc}") from exc


def worlds_of(parameters: Parameters, sweeps: Sequence[Sweep]) -> list[Varied]:
    """All kinds of worlds, sweep by sweep.

    Args:
        parameters: of the world that is varied.
        sweeps: what is varied, one by one.

    Raises:
        WorldError: one of them cannot be.
    """
    return [
        Varied(sweep.parameter, value, varied(parameters, sweep.parameter, value))
        for sweep in sweeps
        for value in sweep.values
    ]


def run_worlds(
    worlds: Sequence[Varied],
    test: tuple[tuple[Arm, Arm], TrialSettings],
    seeds: Sequence[int],
    told: Told,
    kept: KeptRuns | None = None,
) -> Iterator[Point]:
    """Point after point, as they are done, in this process; the same seeds in each.

    Args:
        worlds: of each kind.
        test: arms and settings.
        seeds: of the worlds.
        told: progress.
        kept: where runs are kept; those that are there are not run again.
    """
    for one in worlds:

        def day_over(seed: int, *_: object, one: Varied = one) -> None:
            told(one.parameter, one.value, seed)

        of_world = None if kept is None else (kept, f"{one.parameter}-{one.value:g}-")
        yield Point(one.parameter, one.value, list(run_seeds(one.world, *test, seeds, day_over, kept=of_world)))
