"""`coldstream bench`: benchmarks, which lie in `tests/benchmarks`."""

import runpy
import sys
from pathlib import Path

import typer

from simulators.commands.options import UsageError

bench = typer.Typer(help="Benchmarks: ratios measured side by side in one run.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _run_benchmark(name: str, arguments: list[str]) -> None:
    path = Path(__file__).parents[2] / "tests" / "benchmarks" / f"{name}.py"
    if not path.is_file():
        raise UsageError(f"benchmarks come with the source checkout, and {path} is not there")
    # As Python does for a script.
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path))["main"](arguments)


@bench.command("ingest", context_settings=_PASS_ON)
def bench_ingest(context: typer.Context) -> None:
    """Coalescing consumer against plain Faust `take`, on the same topic (--events, --repeats, --kafka, --log, ...)."""
    _run_benchmark("ingest", context.args)


@bench.command("producers", context_settings=_PASS_ON)
def bench_producers(context: typer.Context) -> None:
    """The replay's producer against kafka-python, on the same broker (--events, --repeats, --kafka, --log, --json)."""
    _run_benchmark("producers", context.args)


@bench.command("monitor", context_settings=_PASS_ON)
def bench_monitor(context: typer.Context) -> None:
    """What monitoring costs; the page under load (--events, --repeats, --control, --rate, --only, --log, --json)."""
    _run_benchmark("monitor", context.args)


@bench.command("drift", context_settings=_PASS_ON)
def bench_drift(context: typer.Context) -> None:
    """How soon an injected drift is flagged, over seeds (--events, --at, --seeds, --shares, --log, --json)."""
    _run_benchmark("drift", context.args)


@bench.command("pipeline", context_settings=_PASS_ON)
def bench_pipeline(context: typer.Context) -> None:
    """End to end, beside ingest only and learner only (--events, --kafka, --log, --json)."""
    _run_benchmark("pipeline", context.args)
