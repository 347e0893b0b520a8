"""Commands of the stream package: roles, topics, settings, doctor."""

import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.command.options import (
    AsJson,
    Config,
    KafkaUrl,
    Overrides,
    RedisUrl,
    gather,
    need_redis,
    need_urls,
    usable_folder,
)
from stream.command.output import leave, print_json
from stream.secrets import SECRETS

RunFolder = Annotated[Path, typer.Option("--run", help="Folder for checkpoints, predictions and logs.")]

_RESTART_PAUSE_S = 2.0


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What its admin client cannot do is told once, in our words.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("coldstream").setLevel(logging.INFO)


def _keep_to_one_processor() -> None:
    """Before polars and numpy are imported: their thread pools would spin on processors that the other roles need."""
    for variable in ("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def worker(config: Config = None, overrides: Overrides = None, kafka: KafkaUrl = None, redis: RedisUrl = None) -> None:
    """Run one worker: Kafka -> counts, label join, outbox. Start as many as there are partitions."""
    from stream.ingest.app import run_worker

    _log_to_stderr()
    run_worker(need_urls(gather(config, overrides, kafka, redis), "worker"))


def learner(
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    run: RunFolder = Path("runs/learner"),
    processes: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that learn together; default: learner.processes.")
    ] = None,
) -> None:
    """Run the learner: outbox -> weights. One per pipeline; it resumes from its run folder.

    Several processes on several machines: `torchrun ... --no-python -- coldstream learner ...`.
    """
    _keep_to_one_processor()
    from stream.training.group.start import run_learner

    _log_to_stderr()
    given = [*(overrides or []), *([] if processes is None else [f"learner.processes={processes}"])]
    settings = need_redis(gather(config, given, kafka, redis), "learner")
    leave(run_learner(settings, usable_folder(run, "--run")))


def monitor(
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The learner's run folder, for a user's recent predictions.")
    ] = None,
) -> None:
    """Serve the page: how users fare in their first impressions, the pipeline's health, Prometheus metrics."""
    _keep_to_one_processor()
    from stream.monitor.role import run_monitor

    _log_to_stderr()
    settings = need_redis(gather(config, overrides, None, redis), "monitor")
    run_monitor(settings, run)
    leave()


def serve(
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that answer on the port (serving.workers).", min=1, max=256)
    ] = None,
) -> None:
    """Answer HTTP requests for scores with the newest verified weights; needs Kafka only for serving.log."""
    _keep_to_one_processor()
    from stream.serving.role import run_serve

    _log_to_stderr()
    more = [] if workers is None else [f"serving.workers={workers}"]
    settings = need_redis(gather(config, [*(overrides or []), *more], kafka, redis), "serve")
    run_serve(need_urls(settings, "serve") if settings.serving.log else settings)
    leave()


def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, as in runs/demo.")],
    config: Config = None,
    overrides: Overrides = None,
) -> None:
    """Write a finished run's figures: report.html, one self-contained file, and PNG pictures in report/."""
    from stream.monitor.page.report import write_report

    for path in write_report(gather(config, overrides), folder):
        print(path)


def up(
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    run: RunFolder = Path("runs/up"),
) -> None:
    """Run every role until Ctrl-C, on embedded servers or against --kafka and --redis."""
    from state_store.address.redis_url import masked_url
    from state_store.client import connect
    from stream.command.display import Display
    from stream.command.roles import Role, servers, with_ports
    from stream.monitor.access.hosts import page_url
    from stream.serving.address import serving_url
    from stream.settings import SettingsError

    settings = gather(config, overrides, kafka, redis)
    if not settings.redis.url and (run / "checkpoints").exists():
        raise SettingsError(
            f"--run {run} holds checkpoints of an earlier run, whose state an embedded Redis does not have; "
            "give another --run folder, or --redis with the Redis of that run"
        )
    usable_folder(run, "--run")
    settings = with_ports(settings)
    console = Console(stderr=True)
    names = ("worker", "learner", "monitor", *(("serve",) if settings.serving.enabled else ()))
    with servers(settings) as live, ExitStack() as stack:
        roles = [stack.enter_context(Role(name, live, run)) for name in names]
        console.print(f"kafka {live.kafka.url}   redis {masked_url(live.redis.url)}   run folder {run}   Ctrl-C stops")
        serving = f"   serving {serving_url(live.serving)}" if live.serving.enabled else ""
        console.print(f"monitor {page_url(live.monitor)}{serving}")
        with Display(live, connect(live.redis), console) as display:
            try:
                while True:
                    for role in roles:
                        if not role.is_running:
                            console.print(f"the {role.name} ended; starting it again (its log: {role.log})")
                            time.sleep(_RESTART_PAUSE_S)
                            role.start()
                    display.refresh()
                    time.sleep(0.5)
            except (KeyboardInterrupt, SystemExit):
                console.print("stopping")


def topics(
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    new_log: Annotated[
        bool, typer.Option("--new-log", help="Accept topics made anew: keep the counters, start offsets over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the topics that are missing, and show them."""
    from state_store.client import connect
    from stream.kafka.topics import ensure_topics, log_ids
    from stream.process.store import open_store
    from stream.settings import SettingsError

    given = gather(config, overrides, kafka, redis)
    if not given.kafka.url:
        raise SettingsError("kafka.url is empty; give --kafka HOST:PORT")
    found = ensure_topics(given.kafka)
    if new_log:
        with connect(need_urls(given, "topics --new-log").redis) as client:
            store = open_store(given, client)
            store.open_log(log_ids(found, given), given.kafka.partitions)
    if as_json:
        print_json(found)
        return
    for name, topic in found.items():
        print(f"{name}  {topic.partitions} partition(s)")


def settings(
    config: Config = None, overrides: Overrides = None, kafka: KafkaUrl = None, redis: RedisUrl = None
) -> None:
    """Print the effective settings as JSON, passwords masked."""
    print_json(gather(config, overrides, kafka, redis).masked(), indent=True)


def fusion(
    folder: Annotated[Path, typer.Argument(help="Folder of a run that learned all tasks (learner.tasks).")],
    config: Config = None,
    overrides: Overrides = None,
    hours: Annotated[float, typer.Option("--hours", min=0.001, max=87_600, help="Event time of a round.")] = 6.0,
    as_json: AsJson = False,
) -> None:
    """Search weights of one ranking score for all tasks, on the outcomes that a run has logged."""
    from stream.command.fusion import described, search_weights

    rounds = search_weights(folder, gather(config, overrides), hours)
    if as_json:
        print_json([msgspec.to_builtins(one) for one in rounds])
        return
    for line in described(rounds):
        print(line)


def doctor(
    config: Config = None,
    overrides: Overrides = None,
    kafka: KafkaUrl = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, packages, Redis, state, broker, topics and consumer group, and say what to do.

    Exit status: 0 all is well, 2 it works, but something should be looked at, 1 something will not work.
    """
    from stream.checks.finding import Level, bad, worst
    from stream.command.doctor import examine
    from stream.settings import SettingsError

    try:
        findings = list(examine(gather(config, overrides, kafka, redis)))
    except SettingsError as exc:
        findings = [bad("settings", str(exc))]
    level = worst(findings)
    if as_json:
        found = [msgspec.structs.asdict(finding) | {"ok": finding.is_ok} for finding in findings]
        print_json({"ok": level is Level.OK, "level": level, "findings": found})
    else:
        colours = {Level.OK: "green", Level.DEGRADED: "yellow", Level.BAD: "red"}
        table = Table(box=None, show_header=False)
        for finding in findings:
            detail = escape(SECRETS.mask(finding.detail))
            table.add_row(f"[{colours[finding.level]}]{finding.level}[/]", finding.subject, detail)
        Console().print(table)
    status = {Level.OK: 0, Level.BAD: 1, Level.DEGRADED: 2}[level]
    if status:
        raise typer.Exit(status)
