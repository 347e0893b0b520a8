"""What the command line writes: secrets masked, and no character that a terminal cannot show ends a command."""

import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TextIO

import msgspec

from state_store.address.redis_url import passwords_in
from stream.secrets import SECRETS


class MaskedStream(io.TextIOWrapper):
    """A stream that shows `***` for every known secret."""

    def write(self, text: str) -> int:
        """Write, masked; returns how much was given."""
        super().write(SECRETS.mask(text))
        return len(text)

    def write_as_it_is(self, text: str) -> None:
        """Write what is masked already."""
        super().write(text)


def mask_streams() -> None:
    """Have all that this process writes masked: messages, tables, logs, tracebacks, whoever writes them."""
    for argument in sys.argv[1:]:
        # Before settings are read: an error about the command line itself may show it.
        if "://" in argument:
            for password in passwords_in(argument):
                SECRETS.add(password)
    for name in ("stdout", "stderr"):
        plain = getattr(sys, name)
        if not isinstance(plain, io.TextIOWrapper):
            continue  # closed, or somebody's own
        plain.flush()
        binary = io.BufferedWriter(io.FileIO(plain.fileno(), "w", closefd=False))
        made = MaskedStream(binary, plain.encoding, "backslashreplace", line_buffering=plain.line_buffering)
        setattr(sys, name, made)


def print_json(value: Any, *, indent: bool = False) -> None:
    """Print a value as JSON, one line by default; its strings are masked one by one, so that it stays JSON."""
    masked = _masked(msgspec.to_builtins(value))
    text = msgspec.json.encode(masked)
    line = (msgspec.json.format(text) if indent else text).decode() + "\n"
    if not _is_shown_by(sys.stdout, line):
        line = json.dumps(masked, indent=2 if indent else None) + "\n"
    if isinstance(sys.stdout, MaskedStream):
        sys.stdout.write_as_it_is(line)
    else:
        sys.stdout.write(line)


def _is_shown_by(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return SECRETS.mask(value)
    if isinstance(value, Mapping):
        return {name: _masked(each) for name, each in value.items()}
    return [_masked(each) for each in value] if isinstance(value, list | tuple) else value


def flush() -> None:
    """Write out what is left; whoever read it may be gone, as in `coldstream settings | head -1`."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            # Or the interpreter would try again at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave(status: int = 0) -> NoReturn:
    """End a role's process at once, with everything written out and closed.

    To take apart what numba has loaded costs the interpreter half a second, for which the next one would have to wait.
    """
    flush()
    os._exit(status)
