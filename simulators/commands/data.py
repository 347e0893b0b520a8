"""`coldstream data`: data sets, fetched and checked."""

from pathlib import Path
from typing import Annotated

import typer

from simulators.commands.options import UsageError

data = typer.Typer(help="Data sets: fetch and check.", no_args_is_help=True)


@data.command("fetch")
def fetch(
    name: str, folder: Annotated[Path | None, typer.Option("--data", help="Folder with the original files.")] = None
) -> None:
    """Find, check and keep a data set (ml-1m)."""
    from simulators.logs import movielens

    if name != "ml-1m":
        raise UsageError(f"data set {name!r} is unknown; known: ml-1m")
    cache = Path("data/ml-1m")
    files, source = movielens.find(folder, cache)
    original = movielens.check(files, source)
    if source != str(cache):
        movielens.save(files, cache)
    print(f"source: {source}")
    print(
        f"checked: {movielens.NUM_RATINGS:,} ratings, {movielens.NUM_USERS:,} users, {movielens.NUM_MOVIES:,} movies; "
        + ("ratings.dat is the original, byte for byte" if original else "same counts, but not the original file")
    )
    print(f"licence: {movielens.LICENCE}")
    print(f"kept in: {cache}")
