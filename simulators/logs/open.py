"""A log by its name or mapping file."""

from pathlib import Path

from simulators.logs import movielens, synthetic
from simulators.logs.errors import DataError
from simulators.logs.log import Log
from simulators.logs.mapped_log import MappedLog
from simulators.logs.mapping import find_mapping, load_mapping
from simulators.world import log as world
from simulators.world.parameters import SHIPPED, load_parameters


def open_log(name_or_file: str, data: Path | None = None, *, seed: int = 7, num_synthetic: int = 200_000) -> Log:
    """Open a log; it reads tables and the first rows, and the whole files when they are asked for.

    Args:
        name_or_file: a shipped mapping, the path of a mapping file, `synthetic`, `world`, or `world:FILE` for a world
            with the parameters of a TOML file.
        data: folder of the data files; None: `data/<name>`, else `../shared/data/<name>`; MovieLens-1M is also fetched.
        seed: of what is drawn: negatives, the synthetic log, the world.
        num_synthetic: rows of the synthetic log, or of the world's.

    Raises:
        DataError: files are missing, cut off or damaged.
        MappingError: the mapping is unknown, not of its form, or does not fit the files.
        WorldError: a world's parameters are unknown or out of bounds.
    """
    if name_or_file == synthetic.NAME:
        return synthetic.make_log(num_synthetic, seed)
    if name_or_file.partition(":")[0] == world.NAME:
        return _world(name_or_file, seed, num_synthetic)
    path = find_mapping(name_or_file)
    mapping = load_mapping(path)
    if mapping.name == movielens.NAME:
        return MappedLog(mapping, str(path), movielens.provide(data), seed)
    return MappedLog(mapping, str(path), _folder(mapping.name, data), seed)


def _world(name: str, seed: int, num_rows: int) -> world.WorldLog:
    _, _, file = name.partition(":")
    return world.WorldLog(load_parameters(Path(file) if file else SHIPPED), seed, num_rows, name)


def _folder(name: str, data: Path | None) -> Path:
    places = [data] if data is not None else [Path("data") / name, Path("../shared/data") / name]
    for place in places:
        if place.is_dir():
            return place
    where = " or ".join(map(str, places))
    raise DataError(f"--log {name}: there is no folder {where}; give the folder of its files by --data DIR")
