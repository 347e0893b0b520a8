"""The `coldstream` command: put together from each package's own commands by their entry points."""

import sys
from importlib.metadata import entry_points

import redis
import typer
from kafka.errors import KafkaError

from state_store.errors import OperatorError

_GROUP = "coldstream.commands"


def build() -> typer.Typer:
    """One application with every installed command; an entry point is a function or a group of commands."""
    app = typer.Typer(
        help="Streaming online learning for recommenders that treat cold-start users well.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group=_GROUP), key=lambda e: e.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    return app


def main() -> None:
    """Run the command line; conditions a person must mend end with one sentence and exit status 1."""
    try:
        build()()
    except OperatorError as exc:
        print(f"coldstream: {exc}", file=sys.stderr)
        sys.exit(1)
    except redis.RedisError as exc:
        print(f"coldstream: Redis failed during the command: {exc}; check `coldstream doctor`", file=sys.stderr)
        sys.exit(1)
    except KafkaError as exc:
        print(f"coldstream: Kafka failed during the command: {exc}; check `coldstream doctor`", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
