"""`coldstream compile`: machine code of workers, learners and scorers, made before any of them starts.

For an image, or a machine on which the first start should be as quick as the others. numba keeps code by the kind of
processor: on another kind it is made anew at the first start.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from state_store.errors import OperatorError
from stream.command.options import AsJson, Config, Overrides, gather
from stream.command.output import print_json

if TYPE_CHECKING:
    from stream.settings import Settings


def compile_code(
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compile what workers, learners and scorers run, so that their first start is as quick as any other."""
    settings = gather(config, overrides)
    folder = kept_in()
    seconds = compiled(settings)
    if as_json:
        print_json({"folder": str(folder), "seconds": {part: round(took, 2) for part, took in seconds.items()}})
        return
    for part, took in seconds.items():
        print(f"{part}: {took:.1f} s")
    print(f"kept in {folder}")


def kept_in() -> Path:
    """Where machine code is kept.

    Raises:
        OperatorError: there is no such place.
    """
    from learner.tables.compiled import cache_folder

    folder = cache_folder()
    if folder is None:
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        where = f"in {chosen} (NUMBA_CACHE_DIR)" if chosen else "beside the package or in ~/.cache/coldstream"
        raise OperatorError(
            f"machine code cannot be kept {where}, which cannot be written to; set NUMBA_CACHE_DIR to a folder that "
            "can, here and for the roles"
        )
    return folder.parent


def compiled(settings: "Settings") -> dict[str, float]:
    """Compile, or load what is there, as the settings need it; returns the seconds that each part took."""
    from learner.parts import warm_up

    found = {"learner and scorers": warm_up(settings.recipe)}
    if settings.worker.join == "compiled":
        found["workers"] = _ingest(settings)
    return found


def _ingest(settings: "Settings") -> float:
    import redis

    from stream.ingest.stage import Ingest
    from stream.process.store import open_store

    # Nobody is asked anything by this connection.
    with redis.Redis() as client:
        ingest = Ingest(
            open_store(settings, client),
            settings.fields,
            settings.actions,
            settings.events,
            lambda letters: None,
            histories=settings.histories,
        )
        return ingest.warm_up()
