"""How a worker process ends, when it does not do so by itself."""

import logging
import os
import sys
from collections.abc import Awaitable
from typing import NoReturn

from stream.environment import FAILPOINT

log = logging.getLogger("coldstream.worker")

EXIT_FAILED, EXIT_STALLED = 70, 75


class StoppingError(RuntimeError):
    """The worker is asked to stop while it waits for a server; what it was doing is left undone."""


def stop_for_good(reason: str) -> NoReturn:
    """End the process over something that only a person can mend."""
    print(f"coldstream: {reason}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


def start_anew(reason: object) -> NoReturn:
    """Replace this process by a fresh one, which starts at the fences as they are now.

    What Redis lost is read again from Kafka. Batches that wait inside Faust belong to the old position: they go with
    the old process.
    """
    # Not by the log, whose handlers may hold messages back until a thread writes them.
    print(f"{reason}; starting anew at the fence", file=sys.stderr, flush=True)
    os.environ.pop(FAILPOINT, None)
    os.execv(sys.executable, [sys.executable, "-m", "stream.command.cli", *sys.argv[1:]])


async def fail_stop(step: Awaitable[None]) -> None:
    """Run a step of the agent; what it cannot handle itself ends the process.

    Faust would acknowledge the batch and go on, which would lose it. A process that ends loses nothing: its successor
    starts at the fence.
    """
    try:
        await step
    except Exception:
        log.critical("the worker stops: a batch could not be processed", exc_info=True)
        os._exit(EXIT_FAILED)
