"""Commands of the simulators: demo, replay, backtest, data, bench."""

import runpy
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from state_store.errors import OperatorError
from stream.command.options import AsJson, Config, KafkaUrl, Overrides, RedisUrl, gather

Events = Annotated[str, typer.Option("--events", help="Ratings to replay, oldest first, or 'all'.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the replay and of the learner.")]
From = Annotated[Path | None, typer.Option("--from", help="Folder with the original MovieLens-1M files.")]
RunName = Annotated[str, typer.Option("--name", help="Name of the run: results go to runs/<name>.")]
DelayMedian = Annotated[float, typer.Option(help="Median delay of a like, seconds of event time.")]
DelaySigma = Annotated[float, typer.Option(help="Standard deviation of the delay's logarithm.")]
Duplicates = Annotated[float, typer.Option(help="Share of events written twice.")]
OutOfOrder = Annotated[float, typer.Option(help="Share of events written late.")]
Jitter = Annotated[float, typer.Option(help="Greatest lateness of an event written late, seconds of event time.")]
Rate = Annotated[float, typer.Option(help="Events per second; 0: as fast as the pipeline takes them.")]
InFlight = Annotated[int, typer.Option(help="Most events in the pipeline at once, if no rate is given; 0: no bound.")]

Drift = Annotated[
    str | None,
    typer.Option("--drift", metavar="AT:SHARE", help="From event number AT on, invert the labels of a share of users."),
]

data = typer.Typer(help="Data sets: fetch and check.", no_args_is_help=True)


class UsageError(OperatorError):
    """An argument is not what it should be."""


@data.command("fetch")
def fetch(name: str, from_folder: From = None) -> None:
    """Find, check and keep a data set (ml-1m)."""
    from simulators.logs import movielens

    if name != "ml-1m":
        raise UsageError(f"data set {name!r} is unknown; known: ml-1m")
    cache = Path("data/ml-1m")
    files, source = movielens.find(from_folder, cache)
    original = movielens.check(files)
    if source != str(cache):
        movielens.save(files, cache)
    print(f"source: {source}")
    print(
        f"checked: {movielens.NUM_RATINGS:,} ratings, {movielens.NUM_USERS:,} users, {movielens.NUM_MOVIES:,} movies; "
        + ("ratings.dat is the original, byte for byte" if original else "same counts, but not the original file")
    )
    print(f"licence: {movielens.LICENCE}")
    print(f"kept in: {cache}")


def _load(from_folder: Path | None, num_ratings: int, seed: int, console: Console) -> Any:
    """MovieLens, or a synthetic log if it is out of reach."""
    from simulators.logs import movielens, synthetic

    try:
        log = movielens.load(from_folder)
    except movielens.DataError as exc:
        if from_folder is not None:
            raise
        console.print(f"{exc}\nGoing on with a synthetic log.")
        return synthetic.generate(num_ratings or 200_000, seed)
    console.print(f"data: MovieLens-1M from {log.source} ({movielens.LICENCE})")
    return log


def _num_ratings(events: str) -> int:
    if events == "all":
        return 0
    try:
        number = int(events.replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"--events {events!r}: expected a number from 1 or 'all'")
    return number


def _drift(text: str | None) -> tuple[int, float]:
    if text is None:
        return 0, 0.0
    at, _, share = text.partition(":")
    try:
        number, part = int(at.replace("_", "")), float(share)
    except ValueError:
        number, part = 0, 0.0
    if number < 1 or not 0 < part <= 1:
        raise UsageError(f"--drift {text!r}: expected AT:SHARE, an event number and a share above 0, as in 400000:0.3")
    return number, part


def _show(summary: dict[str, Any], console: Console) -> None:
    from simulators.runs.summary import cohort_rows

    table = Table(title="progressive validation, by the user's earlier impressions", box=SIMPLE, padding=(0, 1))
    for column in ("cohort", "samples", "AUC", "UAUC", "log-loss", "NE", "calibr.", "item-mean AUC"):
        table.add_column(column, justify="left" if column == "cohort" else "right", no_wrap=column != "item-mean AUC")
    for name, row in cohort_rows(summary):
        figures = [row[k] for k in ("auc", "uauc", "log_loss", "ne", "calibration", "baseline_auc")]
        table.add_row(name, f"{row['samples']:,}", *("-" if v is None else f"{v:.4f}" for v in figures))
    console.print(table)
    console.print("samples: " + ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in summary["samples"].items()))
    verdict = "[green]equal[/]" if summary["counts_match"] else "[red]NOT equal[/]"
    console.print(f"every counter in Redis against an independent count of the log: {verdict}")
    fresh = summary.get("freshness_seconds")
    console.print(
        f"{summary['events_per_second']:,.0f} events/s"
        + (f" end to end; freshness p50 {fresh['p50']:.2f} s, p99 {fresh['p99']:.2f} s" if fresh else "")
        + f"; weights version {summary['weights_version']}"
    )


def _finish(summary: dict[str, Any], folder: Path, console: Console, *, as_json: bool) -> None:
    _show(summary, console)
    console.print(f"summary: {folder / 'summary.json'}; figures: `coldstream report {folder}`")
    if as_json:
        print(msgspec.json.encode(summary).decode())
    if not summary["counts_match"]:
        raise typer.Exit(1)


def demo(
    events: Events = "200000",
    seed: Seed = 7,
    name: RunName = "demo",
    from_folder: From = None,
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    rate: Rate = 0.0,
    in_flight: InFlight = 10_000,
    delay_median: DelayMedian = 20.0,
    delay_sigma: DelaySigma = 1.5,
    duplicates: Duplicates = 0.01,
    out_of_order: OutOfOrder = 0.02,
    jitter: Jitter = 30.0,
    drift: Drift = None,
    as_json: AsJson = False,
) -> None:
    """Replay MovieLens-1M through the whole pipeline and show what it learned."""
    from simulators.producer import PaceSettings
    from simulators.replay import ReplaySettings
    from simulators.runs.demo import run_demo

    console = Console(stderr=True)
    folder = _run_folder(name)
    settings = gather(config, [f"learner.seed={seed}", *(overrides or [])], kafka, redis)
    replay_settings = ReplaySettings(
        _num_ratings(events), delay_median, delay_sigma, duplicates, out_of_order, jitter, seed, *_drift(drift)
    )
    log = _load(from_folder, replay_settings.num_ratings, seed, console)
    _empty(folder)
    pace = PaceSettings(rate, 0 if rate else in_flight)
    summary = run_demo(settings, log, replay_settings, pace, folder, console)
    _finish(summary, folder, console, as_json=as_json)


def backtest(
    events: Events = "200000",
    seed: Seed = 7,
    name: RunName = "backtest",
    from_folder: From = None,
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    delay_median: DelayMedian = 20.0,
    delay_sigma: DelaySigma = 1.5,
    duplicates: Duplicates = 0.01,
    out_of_order: OutOfOrder = 0.02,
    jitter: Jitter = 30.0,
    drift: Drift = None,
    as_json: AsJson = False,
) -> None:
    """Run the same stages without a broker, deterministic for a seed."""
    from simulators.replay import ReplaySettings
    from simulators.runs.run_backtest import run_backtest

    console = Console(stderr=True)
    folder = _run_folder(name)
    settings = gather(config, [f"learner.seed={seed}", *(overrides or [])], None, redis)
    replay_settings = ReplaySettings(
        _num_ratings(events), delay_median, delay_sigma, duplicates, out_of_order, jitter, seed, *_drift(drift)
    )
    log = _load(from_folder, replay_settings.num_ratings, seed, console)
    _empty(folder)
    with console.status("backtest"):
        summary = run_backtest(settings, log, replay_settings, folder)
    _finish(summary, folder, console, as_json=as_json)


def replay(
    kafka: Annotated[str, typer.Option("--kafka", help="HOST:PORT[,HOST:PORT] to write to.")],
    events: Events = "all",
    seed: Seed = 7,
    from_folder: From = None,
    config: Config = None,
    overrides: Overrides = None,
    rate: Rate = 0.0,
    delay_median: DelayMedian = 20.0,
    delay_sigma: DelaySigma = 1.5,
    duplicates: Duplicates = 0.01,
    out_of_order: OutOfOrder = 0.02,
    jitter: Jitter = 30.0,
    drift: Drift = None,
    close: Annotated[bool, typer.Option(help="End with heartbeats that close every window.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write MovieLens-1M to a Kafka as impressions and feedback; whoever consumes it is not its concern."""
    from simulators.producer import PaceSettings, ReplayProducer
    from simulators.replay import ReplaySettings, closing_heartbeats, iter_log, plan_replay
    from stream.kafka.topics import ensure_topics

    console = Console(stderr=True)
    settings = gather(config, overrides, kafka)
    replay_settings = ReplaySettings(
        _num_ratings(events), delay_median, delay_sigma, duplicates, out_of_order, jitter, seed, *_drift(drift)
    )
    log = _load(from_folder, replay_settings.num_ratings, seed, console)
    ensure_topics(settings.kafka)
    plan = plan_replay(log, replay_settings)
    producer = ReplayProducer(settings.kafka, PaceSettings(rate))
    started = time.monotonic()
    with console.status("writing") as status:
        partitions = settings.kafka.partitions
        producer.write(iter_log(log, plan, partitions), lambda sent: status.update(f"{sent:,} of {len(plan):,} events"))
        if close:
            producer.write(closing_heartbeats(plan, partitions, settings.join))
    seconds = time.monotonic() - started
    producer.close()
    console.print(f"{producer.num_sent:,} events in {seconds:.1f} s")
    if as_json:
        print(msgspec.json.encode({"events_produced": producer.num_sent, "seconds": round(seconds, 2)}).decode())


def chaos(
    kills: Annotated[int, typer.Option(min=1, help="How often a role is killed.")] = 20,
    workers: Annotated[
        int, typer.Option(min=1, help="With more than one, a worker leaves each time and comes back at the next.")
    ] = 1,
    events: Events = "50000",
    seed: Seed = 7,
    broker: Annotated[str, typer.Option(help="embedded, or kafka (a distribution at KAFKA_HOME).")] = "embedded",
    name: RunName = "chaos",
    from_folder: From = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Kill worker and learner at random while a replay runs; compare with an offline count of the log."""
    from contextlib import ExitStack

    from simulators.apache_kafka import ApacheKafka, find_kafka
    from simulators.replay import ReplaySettings
    from simulators.runs.chaos import Chaos, ChaosSettings
    from stream.command.roles import servers

    console = Console(stderr=True)
    folder = _run_folder(name)
    if broker not in ("embedded", "kafka"):
        raise UsageError(f"--broker {broker!r}: expected embedded or kafka")
    # Short intervals, so that deaths meet checkpoints and publishes.
    given = ["publish.interval_s=0.3", "publish.checkpoint_s=0.7", f"learner.seed={seed}", *(overrides or [])]
    replay_settings = ReplaySettings(num_ratings=_num_ratings(events), seed=seed)
    log = _load(from_folder, replay_settings.num_ratings, seed, console)
    _empty(folder)
    with ExitStack() as stack:
        kafka = stack.enter_context(ApacheKafka(find_kafka())).url if broker == "kafka" else None
        live = stack.enter_context(servers(gather(config, given, kafka)))
        run = Chaos(live, log, replay_settings, ChaosSettings(kills=kills, workers=workers, seed=seed), folder)
        with console.status("starting") as status:
            report = run.run(status.update) | {"broker": broker, "data": log.source}
    (folder / "chaos.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    for total, (have, want) in report["totals"].items():
        console.print(f"{total:24} {have:>10,} {want:>10,}  {'' if have == want else '[red]differs[/]'}")
    console.print(", ".join(f"{where} {count}" for where, count in report["deaths"].items()))
    console.print(
        f"{report['kills']} kills in {report['seconds']:.0f} s: {'equal' if report['equal'] else 'NOT equal'}"
    )
    if as_json:
        print(msgspec.json.encode(report).decode())
    if not report["equal"]:
        raise typer.Exit(1)


def _run_folder(name: str) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"--name {name!r}: expected a plain folder name")
    return Path("runs") / name


def _empty(folder: Path) -> None:
    """Drop an earlier run's results: the state that they belong to is gone with its servers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


bench = typer.Typer(help="Benchmarks: ratios measured side by side in one run.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _run_benchmark(name: str, arguments: list[str]) -> None:
    path = Path(__file__).parent.parent / "tests" / "benchmarks" / f"{name}.py"
    if not path.is_file():
        raise UsageError(f"benchmarks come with the source checkout, and {path} is not there")
    # As Python does for a script.
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path))["main"](arguments)


@bench.command("ingest", context_settings=_PASS_ON)
def bench_ingest(context: typer.Context) -> None:
    """Coalescing consumer against plain Faust `take`, on the same topic (--events, --repeats, --kafka, --json)."""
    _run_benchmark("ingest", context.args)


@bench.command("monitor", context_settings=_PASS_ON)
def bench_monitor(context: typer.Context) -> None:
    """What monitoring costs; the page under load (--events, --repeats, --control, --rate, --only, --json)."""
    _run_benchmark("monitor", context.args)


@bench.command("drift", context_settings=_PASS_ON)
def bench_drift(context: typer.Context) -> None:
    """How soon an injected drift is flagged, over seeds (--events, --at, --seeds, --shares, --json)."""
    _run_benchmark("drift", context.args)


@bench.command("pipeline", context_settings=_PASS_ON)
def bench_pipeline(context: typer.Context) -> None:
    """End to end, beside ingest only and learner only (--events, --kafka, --json)."""
    _run_benchmark("pipeline", context.args)
