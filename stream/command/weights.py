"""Commands about weights: what is kept, what is served, what is held."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.command.options import MOST_VERSIONS, AsJson, Config, Overrides, RedisUrl, gather, need_redis
from stream.command.output import print_json

if TYPE_CHECKING:
    from state_store.rollout import Rollout
    from stream.command.kept import Desk, Overview

weights = typer.Typer(help="Published weights: list, pin, roll back, hold.", no_args_is_help=True)
Version = Annotated[int, typer.Argument(metavar="V", min=1, max=MOST_VERSIONS, help="A kept version.")]
Why = Annotated[str, typer.Option("--why", help="For whoever asks later; kept with the decision.")]


@contextmanager
def _desk(config: Config, overrides: Overrides, redis: RedisUrl) -> "Iterator[Desk]":
    from state_store.client import connect
    from stream.command.kept import Desk

    settings = need_redis(gather(config, overrides, None, redis), "weights")
    with connect(settings.redis) as client:
        yield Desk(client, settings.redis.prefix, getpass.getuser())


@weights.command("list")
def list_kept(
    config: Config = None, overrides: Overrides = None, redis: RedisUrl = None, as_json: AsJson = False
) -> None:
    """Versions that are kept, which is served, and whether publishing is held."""
    with _desk(config, overrides, redis) as desk:
        found = desk.overview()
    if as_json:
        print_json(found)
        return
    table = Table(box=SIMPLE, padding=(0, 1))
    for column in ("version", "published (UTC)", "samples", "MiB", "log-loss", "checkpoint", ""):
        table.add_column(column, justify="left" if column in {"published (UTC)", ""} else "right")
    for m in found.kept:
        marks = {"pinned": found.pinned, "stable": found.stable, "in force": found.in_force}
        said = ", ".join(name for name, version in marks.items() if version == m.version)
        loss = f"{m.metrics['log_loss']:.4f}" if "log_loss" in m.metrics else "-"
        size = f"{m.base.size / 2**20:.1f}"
        table.add_row(
            str(m.version), _time(m.created_ms), f"{m.num_samples:,}", size, loss, str(m.checkpoint or "-"), said
        )
    console = Console()
    console.print(table)
    for line in _said(found):
        console.print(escape(line))


@weights.command("show")
def show(
    version: Annotated[
        int, typer.Argument(metavar="[V]", min=0, max=MOST_VERSIONS, help="A kept version; default: what is in force.")
    ] = 0,
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """One version's manifest, and what was decided about it."""
    with _desk(config, overrides, redis) as desk:
        manifest = desk.find(version)
        about = [d for d in desk.overview().decisions if d.version == manifest.version]
    print_json(msgspec.to_builtins(manifest) | {"decisions": msgspec.to_builtins(about)}, indent=not as_json)


@weights.command("pin")
def pin(
    version: Version,
    why: Why = "pinned by hand",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Have scorers serve a kept version; the learner goes on to learn and to publish."""
    with _desk(config, overrides, redis) as desk:
        _tell(desk.pin(version, why), as_json)


@weights.command("unpin")
def unpin(
    why: Why = "unpinned by hand",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Have scorers follow the newest weights again."""
    with _desk(config, overrides, redis) as desk:
        _tell(desk.unpin(why), as_json)


@weights.command("rollback")
def rollback(
    version: Annotated[
        int,
        typer.Argument(
            metavar="[V]",
            min=0,
            max=MOST_VERSIONS,
            help="Default: the stable one, or the newest before what is served.",
        ),
    ] = 0,
    learner: Annotated[bool, typer.Option("--learner", help="Take the learner back, too.")] = False,
    why: Why = "rolled back by hand",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Have scorers serve an older version; with --learner the learner goes back to the checkpoint before it."""
    with _desk(config, overrides, redis) as desk:
        _tell(desk.rollback(version, why, learner=learner), as_json)


@weights.command("hold")
def hold(
    why: Why = "held by hand",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Have the learner publish nothing; it goes on learning."""
    with _desk(config, overrides, redis) as desk:
        _tell(desk.hold(why), as_json)


@weights.command("release")
def release(
    why: Why = "released by hand",
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Have it publish again."""
    with _desk(config, overrides, redis) as desk:
        _tell(desk.release(why), as_json)


def _tell(rollout: "Rollout", as_json: bool) -> None:
    if as_json:
        print_json(rollout)
        return
    served = f"version {rollout.pinned}, until `coldstream weights unpin`" if rollout.pinned else "the newest weights"
    print(f"scorers serve {served}")
    if rollout.rewind is not None:
        print(
            f"the learner is asked to go back to checkpoint {rollout.rewind.checkpoint}: what it has learned since is "
            "forgotten, and learned again as far as the outbox has it (publish.keep_samples); "
            "`coldstream weights list` says what has come of it"
        )
    elif rollout.hold:
        print(f"the learner goes on learning and publishes nothing: {rollout.hold}")
    elif rollout.pinned:
        print("the learner goes on learning from where it is, and publishing; `--learner` would take it back, too")


def _said(found: "Overview") -> Iterator[str]:
    yield f"scorers serve {f'version {found.pinned}: {found.why_pinned}' if found.pinned else 'the newest weights'}"
    if found.hold:
        yield f"publishing is held: {found.hold}"
    elif found.held_back:
        yield f"weights are held back: {found.held_back}"
    if found.rewind is not None:
        yield f"the learner is asked to go back to checkpoint {found.rewind.checkpoint}, and has not done so yet"
    for d in found.decisions[-5:]:
        yield f"{_time(d.time_ms)}  {d.what} {d.version or ''}  {d.why} ({d.by})"


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
