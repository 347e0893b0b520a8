"""The log that a benchmark replays, and the topics that it is written to."""

import argparse
import os
from pathlib import Path

import msgspec

from simulators.logs.errors import DataError
from simulators.logs.log import Log
from simulators.logs.open import open_log
from stream.settings import Settings


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """`--log` and `--data`."""
    parser.add_argument("--log", default="", help="name or file; default: ml-1m, or synthetic where it is out of reach")
    parser.add_argument("--data", type=Path, help="folder with its files")


def chosen_log(options: argparse.Namespace, num_rows: int) -> Log:
    """The log that was asked for.

    Args:
        options: with those of `add_log_options`.
        num_rows: of a synthetic one.
    """
    try:
        return open_log(options.log or "ml-1m", options.data, seed=7, num_synthetic=num_rows)
    except DataError:
        if options.log or options.data:
            raise
        return open_log("synthetic", None, seed=7, num_synthetic=num_rows)


def own_topics(settings: Settings, part: str) -> Settings:
    """Settings with topics that nobody has written to: a broker that is given may hold those of another run.

    Args:
        settings: of the pipeline.
        part: of the benchmark.
    """
    own = f"bench-{os.getpid()}-{part}"
    topics = {name: f"{own}-{name}" for name in ("impressions", "feedback", "dead_letter", "weights")}
    return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, group=own, **topics))
