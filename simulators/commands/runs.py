"""`coldstream demo`, `backtest` and `chaos`: whole runs that end with a comparison against the oracle."""

from typing import Annotated

import msgspec
import typer
from rich.console import Console

from simulators.commands.options import (
    Events,
    LogOptions,
    RunName,
    StreamOptions,
    UsageError,
    grouped,
    parse_events,
)
from simulators.commands.outcome import emptied, finish, run_folder
from stream.command.options import AsJson, Config, KafkaUrl, Overrides, RedisUrl, gather
from stream.command.output import print_json


@grouped
def demo(
    source: LogOptions,
    stream: StreamOptions,
    events: Events = "200000",
    name: RunName = "demo",
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    rate: Annotated[float, typer.Option(help="Events per second; 0: as fast as the pipeline takes them.")] = 0.0,
    speed: Annotated[float, typer.Option(help="Seconds of event time per second; 0: no such bound.")] = 0.0,
    in_flight: Annotated[
        int, typer.Option(help="Most events in the pipeline at once, if nothing else bounds the speed; 0: no bound.")
    ] = 10_000,
    as_json: AsJson = False,
) -> None:
    """Replay a log through the whole pipeline and show what it learned."""
    from simulators.commands.options import checked
    from simulators.pace import PaceSettings
    from simulators.runs.demo import run_demo

    console = Console(stderr=True)
    folder = run_folder(name)
    how = stream.settings(parse_events(events))
    pace = checked({"events_per_s": rate, "speed": speed, "in_flight": 0 if rate or speed else in_flight}, PaceSettings)
    log = source.open(stream.seed, how.num_rows, console)
    given = [f"learner.seed={stream.seed}", *(overrides or [])]
    settings = gather(config, given, kafka, redis, defaults=stream.defaults(log))
    summary = run_demo(settings, log, how, pace, emptied(folder), console)
    finish(summary, folder, console, as_json=as_json)


@grouped
def backtest(
    source: LogOptions,
    stream: StreamOptions,
    events: Events = "200000",
    name: RunName = "backtest",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Run the same stages without a broker, deterministic for a seed."""
    from simulators.runs.run_backtest import run_backtest

    console = Console(stderr=True)
    folder = run_folder(name)
    how = stream.settings(parse_events(events))
    log = source.open(stream.seed, how.num_rows, console)
    given = [f"learner.seed={stream.seed}", *(overrides or [])]
    settings = gather(config, given, None, redis, defaults=stream.defaults(log))
    emptied(folder)
    with console.status("backtest"):
        summary = run_backtest(settings, log, how, folder)
    finish(summary, folder, console, as_json=as_json)


@grouped
def chaos(
    source: LogOptions,
    stream: StreamOptions,
    kills: Annotated[int, typer.Option(min=1, max=100_000, help="How often a role is killed.")] = 20,
    workers: Annotated[
        int,
        typer.Option(min=1, max=1000, help="With more than one, a worker leaves each time and comes back at the next."),
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Processes of the learner; with more than one, one is killed each time.")
    ] = 1,
    weather: Annotated[
        bool, typer.Option("--weather", help="More than kills: refusals, transactions, retention, a full disk.")
    ] = False,
    events: Events = "50000",
    broker: Annotated[str, typer.Option(help="embedded, or kafka (a distribution at KAFKA_HOME).")] = "embedded",
    name: RunName = "chaos",
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Kill worker and learner at random while a replay runs; compare with an offline count of the log."""
    from contextlib import ExitStack

    from simulators.apache_kafka import ApacheKafka, find_kafka
    from simulators.runs.chaos import Chaos, ChaosSettings
    from stream.command.roles import servers

    console = Console(stderr=True)
    folder = run_folder(name)
    if broker not in ("embedded", "kafka"):
        raise UsageError(f"--broker {broker!r}: expected embedded or kafka")
    how = stream.settings(parse_events(events))
    log = source.open(stream.seed, how.num_rows, console)
    # Short intervals, so that deaths meet checkpoints and publishes.
    given = ["publish.interval_s=0.3", "publish.checkpoint_s=0.7", f"learner.seed={stream.seed}", *(overrides or [])]
    settings = ChaosSettings(kills=kills, workers=workers, processes=processes, seed=stream.seed, weather=weather)
    emptied(folder)
    with ExitStack() as stack:
        kafka = stack.enter_context(ApacheKafka(find_kafka())).url if broker == "kafka" else None
        live = stack.enter_context(servers(gather(config, given, kafka, defaults=stream.defaults(log))))
        run = Chaos(live, log, how, settings, folder, on_apache=broker == "kafka")
        with console.status("starting") as status:
            report = run.run(status.update) | {"broker": broker, "data": log.source, "log": log.name}
    (folder / "chaos.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    for total, (have, want) in report["totals"].items():
        console.print(f"{total:24} {have:>10,} {want:>10,}  {'' if have == want else '[red]differs[/]'}")
    console.print(", ".join(f"{where} {count}" for where, count in report["deaths"].items()))
    verdict = "equal" if report["equal"] else "NOT equal"
    console.print(f"{report['kills']} kills and incidents in {report['seconds']:.0f} s: {verdict}")
    if as_json:
        print_json(report)
    if not report["equal"]:
        raise typer.Exit(1)
