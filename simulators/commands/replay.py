"""`coldstream replay`: a log to a Kafka, as fast as it can or at a pace."""

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from simulators.commands.options import Events, LogOptions, StreamOptions, checked, grouped, parse_events
from stream.command.options import AsJson, Config, Overrides, gather
from stream.command.output import print_json

if TYPE_CHECKING:
    from simulators.controls import Controls
    from simulators.replay import Replay

_REFRESH_S = 0.25


@grouped
def replay(
    source: LogOptions,
    stream: StreamOptions,
    kafka: Annotated[str, typer.Option("--kafka", help="HOST:PORT[,HOST:PORT] to write to.")],
    events: Events = "all",
    config: Config = None,
    overrides: Overrides = None,
    rate: Annotated[float, typer.Option(help="Events per second; 0: as fast as it can.")] = 0.0,
    speed: Annotated[
        float, typer.Option(help="Seconds of event time per second: 1 is life, 1000 a thousand times as fast.")
    ] = 0.0,
    loop: Annotated[
        int, typer.Option(metavar="TIMES", help="How often, each time later and with new impression ids; 0: endless.")
    ] = 1,
    gap: Annotated[float, typer.Option(help="Between two times, seconds of event time.")] = 3600.0,
    close: Annotated[bool, typer.Option(help="End with heartbeats that close every window.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a log to a Kafka as impressions and feedback; whoever consumes it is not its concern.

    The space bar pauses and resumes it; so do the signals SIGUSR1 (pause) and SIGUSR2 (resume).
    """
    from simulators.controls import Controls, listening
    from simulators.pace import PaceSettings
    from simulators.producer import ReplayProducer
    from simulators.replay import Replay
    from stream.kafka.topics import ensure_topics

    console = Console(stderr=True)
    pace = checked({"events_per_s": rate, "speed": speed}, PaceSettings)
    how = stream.settings(parse_events(events), rounds=loop, gap_s=gap)
    log = source.open(stream.seed, how.num_rows, console)
    settings = gather(config, overrides, kafka, defaults=stream.defaults(log))
    ensure_topics(settings.kafka)
    run = Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms)
    controls = Controls()
    producer = ReplayProducer(settings.kafka, pace, controls=controls)
    started = time.monotonic()
    with closing(producer), listening(controls), ReplayProgress(run, controls, console) as shown:
        producer.write(run.whole_log() if close else run.entries(), shown.update)
    seconds = time.monotonic() - started
    console.print(f"{producer.num_sent:,} events in {seconds:.1f} s")
    if as_json:
        report = {"events_produced": producer.num_sent, "rows": run.num_rows, "seconds": round(seconds, 2)}
        print_json(report)


class ReplayProgress:
    """A line that follows a replay: share of the log, events, events/s, event-time clock, time left.

    Args:
        run: what is written.
        controls: whether it is paused.
        console: where to draw.
    """

    def __init__(self, run: "Replay", controls: "Controls", console: Console) -> None:
        self._run, self._controls = run, controls
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4)
        self._task = self._progress.add_task("writing", total=None, said="")
        self._last = (time.monotonic(), 0)

    def update(self, num_sent: int) -> None:
        """Draw the figures as they are now, if it is time to."""
        now = time.monotonic()
        since, before = self._last
        if now - since < _REFRESH_S:
            return
        self._last = (now, num_sent)
        clock = datetime.fromtimestamp(self._run.now_ms / 1000, UTC)
        share = self._run.share_done()
        self._progress.update(
            self._task,
            description="paused" if self._controls.is_paused else "writing",
            total=None if share is None else 1.0,
            completed=share or 0.0,
            said=f"{num_sent:,} events, {(num_sent - before) / (now - since):,.0f}/s, at {clock:%Y-%m-%d %H:%M:%S}",
        )

    def __enter__(self) -> "ReplayProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
