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
    # As Python does for a script; and what tests and benchmarks share, behind our own packages of the same names.
    sys.path[:0] = [str(path.parent), str(path.parents[2]), str(path.parents[1])]
    runpy.run_path(str(path))["main"](arguments)


@bench.command("ingest", context_settings=_PASS_ON)
def bench_ingest(context: typer.Context) -> None:
    """Coalescing consumer against plain Faust `take`; or N workers on 1 or 3 masters (--workers, --masters, ...)."""
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
    """End to end beside its parts, plain Faust, another checkout (--events, --kafka, --control, --pairs, --json)."""
    _run_benchmark("pipeline", context.args)


@bench.command("fast", context_settings=_PASS_ON)
def bench_fast(context: typer.Context) -> None:
    """The compiled step beside the same in NumPy, look-ups beside a dict (--samples, --repeats, --ids, --json)."""
    _run_benchmark("fast", context.args)


@bench.command("growth", context_settings=_PASS_ON)
def bench_growth(context: typer.Context) -> None:
    """Step, memory, checkpoints, weights as ids grow (--ids, --samples, --repeats, --publish, --json)."""
    _run_benchmark("growth", context.args)


@bench.command("gpu", context_settings=_PASS_ON)
def bench_gpu(context: typer.Context) -> None:
    """The deep part's step by size of the micro-batch, on a GPU where there is one (--sizes, --ids, --rows, --json)."""
    _run_benchmark("gpu", context.args)


@bench.command("content-start", context_settings=_PASS_ON)
def bench_content_start(context: typer.Context) -> None:
    """What a new item costs that starts by its content, by size of the pool (--items, --new, --repeats, --json)."""
    _run_benchmark("content_start", context.args)


@bench.command("rounded", context_settings=_PASS_ON)
def bench_rounded(context: typer.Context) -> None:
    """What rounding published values costs in AUC (--rows, --every, --set, --recorded, --log, --data, --json)."""
    _run_benchmark("rounded", context.args)


@bench.command("stages", context_settings=_PASS_ON)
def bench_stages(context: typer.Context) -> None:
    """Microseconds of each stage of worker and learner, and what bounds them (--events, --set, --log, --json)."""
    _run_benchmark("stages", context.args)


@bench.command("script", context_settings=_PASS_ON)
def bench_script(context: typer.Context) -> None:
    """CPU of Redis in the script alone, beside other checkouts', and whether the state is the same (--control, ...)."""
    _run_benchmark("script", context.args)


@bench.command("freshness", context_settings=_PASS_ON)
def bench_freshness(context: typer.Context) -> None:
    """How soon weights learn of what is written (--rate, --seconds, --interval, --set, --kafka, --log, --json)."""
    _run_benchmark("freshness", context.args)


@bench.command("ablation", context_settings=_PASS_ON)
def bench_ablation(context: typer.Context) -> None:
    """Variants of the model, and rivals, on the same samples (--events, --only, --seeds, --recorded, --log, --json)."""
    _run_benchmark("ablation", context.args)


@bench.command("histories", context_settings=_PASS_ON)
def bench_histories(context: typer.Context) -> None:
    """What histories cost in Redis, at the learner, at the scorer (--events, --lengths, --only, --log, --json)."""
    _run_benchmark("histories", context.args)


@bench.command("estimator", context_settings=_PASS_ON)
def bench_estimator(context: typer.Context) -> None:
    """The River estimator beside River's logistic regression, on River's data and MovieLens-1M (--events, --data)."""
    _run_benchmark("estimator", context.args)


@bench.command("hindsight", context_settings=_PASS_ON)
def bench_hindsight(context: typer.Context) -> None:
    """How well first impressions can be predicted by who knows the whole log (--events, --seeds, --log, --json)."""
    _run_benchmark("hindsight", context.args)


@bench.command("serve", context_settings=_PASS_ON)
def bench_serve(context: typer.Context) -> None:
    """How soon the scorer answers while weights are swapped, and that none mixes two (--workers, --seconds, ...)."""
    _run_benchmark("serve", context.args)


@bench.command("canary", context_settings=_PASS_ON)
def bench_canary(context: typer.Context) -> None:
    """False reverts of A/A canaries, and how soon poison is reverted (--salts, --poisoned, --set, --log, --json)."""
    _run_benchmark("canary", context.args)


@bench.command("processes", context_settings=_PASS_ON)
def bench_processes(context: typer.Context) -> None:
    """A learner of several processes beside one: AUC, bytes, speed (--processes, --exchange, --events, --json)."""
    _run_benchmark("processes", context.args)


@bench.command("loop", context_settings=_PASS_ON)
def bench_loop(context: typer.Context) -> None:
    """How soon after an event the scorer answers with weights that have learned it (--probes, --rate, --json)."""
    _run_benchmark("loop", context.args)


@bench.command("state", context_settings=_PASS_ON)
def bench_state(context: typer.Context) -> None:
    """What users and items take in Redis, by kind; to save, restart, expire them (--users, --items, --server, ...)."""
    _run_benchmark("state", context.args)
