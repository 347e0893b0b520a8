"""The `coldstream` command: put together from each package's own commands by their entry points.

Nothing heavy is imported here: Ctrl-C may come while the rest is, which takes a second or two.
"""

import errno
import os
import signal
import sys
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import typer

_GROUP = "coldstream.commands"
_INTERRUPTED = 130
"""As shells have it: 128 and the signal's number."""
_AGAIN_S = 0.05
_OF_FILES = {
    errno.EACCES: "mend its rights, or give another path",
    errno.EPERM: "mend its rights, or give another path",
    errno.EROFS: "give a path on a disk that can be written to",
    errno.ENOTDIR: "give a path whose folders are folders",
    errno.EEXIST: "give another path, or remove what is there",
    errno.EISDIR: "give the path of a file",
    errno.ENOENT: "give a path that is there",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "give a path without a circle of links",
    errno.ENOSPC: "make room on that disk, or give a path on another",
    errno.EDQUOT: "make room on that disk, or give a path on another",
}
"""What can be wrong with a path, and what to do."""


def build() -> "typer.Typer":
    """One application with every installed command; an entry point is a function or a group of commands."""
    import typer

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
    sys.unraisablehook = _asked_again
    try:
        try:
            _run()
        finally:
            from stream.command.output import flush

            flush()
    except BaseException as exc:
        if not _is_interrupted(exc):
            raise
        # Once is enough: what ends now is not to be interrupted again, nor to say anything.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(_INTERRUPTED)


def _asked_again(ignored: Any) -> None:
    """Python ignores what is raised in a destructor: who was asked to end there is asked again outside of it."""
    asked = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(ignored.exc_type)
    if asked is None:
        sys.__unraisablehook__(ignored)
        return
    timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), asked))
    timer.daemon = True
    timer.start()


def _is_interrupted(exc: BaseException | None) -> bool:
    """Whether it comes of Ctrl-C; some imports turn that into an error of their own."""
    seen: set[int] = set()
    # What was raised again and again by others may lead back to itself.
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, KeyboardInterrupt):
            return True
        seen.add(id(exc))
        exc = exc.__cause__ or exc.__context__
    return False


def _run() -> None:
    from stream.command.output import mask_streams
    from stream.process.garbage import collect_seldom

    mask_streams()
    collect_seldom()
    # As an exception, so that servers are stopped and files removed; roles have a way of their own.
    signal.signal(signal.SIGTERM, _end)
    from state_store.errors import OperatorError

    try:
        build()()
    except OperatorError as exc:
        _fail(str(exc))
    except _errors_of("redis.exceptions", "RedisError") as exc:
        _fail(f"Redis failed during the command: {exc}; check `coldstream doctor`")
    except _errors_of("kafka.errors", "KafkaError") as exc:
        _fail(f"Kafka failed during the command: {exc}; check `coldstream doctor`")
    except _errors_of("learner.adaf2m2.device.choice", "DeviceError") as exc:
        _fail(str(exc))
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT) and exc.filename is None:
            _fail(f"{exc.strerror} where something is written; make room, or give paths on another disk")
        if exc.errno not in _OF_FILES or exc.filename is None:
            raise
        _fail(f"{os.fsdecode(exc.filename)}: {exc.strerror}; {_OF_FILES[exc.errno]}")


def _errors_of(module: str, name: str) -> tuple[type[Exception], ...]:
    """A library's error; none if the command has not loaded the library, which then cannot have raised it."""
    loaded = sys.modules.get(module)
    return () if loaded is None else (getattr(loaded, name),)


def _end(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _fail(said: str) -> NoReturn:
    print(f"coldstream: {said}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
