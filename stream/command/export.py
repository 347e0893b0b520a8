"""`coldstream export`: a kept version as files for other programs.

`weights.safetensors` holds, of table n (0: values, 1: crosses, then two of each further task):

    n.keys  n.fields   64-bit key, and the number of its field or cross, of each row
    n.values.w         first-order weight           n.values.v     D factors
    n.values.deep      embedding, first-order weight behind it, for `dense.onnx`

and `fast.*`: bias_2[0], centre_2D, levels_2L, mean_S, var_S and counters_3[0] of the gate's signals, and gate_P: its
layers one behind the other, W_in (S, H), b_in (H), W_out (O, H), b_out (O). `task.N.*` are the same of further tasks.
`model.json` says what the fields, components, signals and sizes are. A key is XXH3 of the value
(`learner/samples/keys.py`); what is made of all this is transcribed in `tests/learner/test_export.py`. `dense.onnx` is
described in `learner/adaf2m2/exported.py`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream.command.options import MOST_VERSIONS, AsJson, Config, Overrides, RedisUrl, gather, need_redis, usable_folder
from stream.command.output import print_json

if TYPE_CHECKING:
    import redis as redis_client

    from learner.recipe import Recipe
    from stream.settings import Settings


def export(
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    version: Annotated[
        int, typer.Option("--version", min=0, max=MOST_VERSIONS, help="A kept version; default: the newest kept.")
    ] = 0,
    config: Config = None,
    overrides: Overrides = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write weights as safetensors and JSON, and the deep part, if there is one, as ONNX."""
    from state_store.client import connect

    settings = need_redis(gather(config, overrides, None, redis), "export")
    usable_folder(out, "--out")
    with connect(settings.redis) as client:
        files = write_export(settings, client, out, version)
    if as_json:
        print_json({path.name: path.stat().st_size for path in files})
        return
    for path in files:
        print(path)


def write_export(settings: "Settings", client: "redis_client.Redis", out: Path, version: int) -> list[Path]:
    """Write the files of a kept version.

    Args:
        settings: of the learner that published it.
        client: Redis.
        out: folder, which is there.
        version: 0: the newest kept.

    Returns:
        the files.

    Raises:
        NotKeptError: the version is not kept, or none is.
        NoOnnxError: there is a deep part, and the package onnx is missing.
        WeightsError: its blob is gone, or damaged.
    """
    from learner.adaf2m2.exported import write_dense
    from learner.published.messages import gathered, message
    from state_store.weights import WeightStore
    from stream.command.kept import kept_version

    weights = WeightStore(client, settings.redis.prefix)
    manifest = kept_version(weights, version)
    blob = message(gathered(weights.read(manifest.base)))
    described = {"manifest": manifest, "model": description(settings.recipe)}
    contents = {
        out / "weights.safetensors": blob,
        out / "model.json": msgspec.json.format(msgspec.json.encode(described), indent=2),
    }
    if settings.recipe.has_deep:
        need_onnx(settings.recipe)
    for path, content in contents.items():
        path.write_bytes(content)
    files = list(contents)
    if settings.recipe.has_deep:
        files.append(out / "dense.onnx")
        write_dense(settings.recipe, blob, files[-1])
    return files


def description(recipe: "Recipe") -> dict[str, Any]:
    """What a reader of the arrays has to know."""
    from learner.adaf2m2.exported import INPUTS, OUTPUT
    from learner.fast.layout import component_names

    found: dict[str, Any] = msgspec.to_builtins(recipe)
    has_fast = recipe.model.fast
    found["components"] = component_names(recipe.fast_recipe, has_deep=recipe.has_deep) if has_fast else []
    found["gate_signals"] = list(recipe.fast.gate_signals)
    found["onnx"] = {"inputs": list(INPUTS), "output": OUTPUT} if recipe.has_deep else None
    return found


def need_onnx(recipe: "Recipe") -> None:
    """Whether the dense part can be written.

    Raises:
        NoOnnxError: the package is missing, or the deep part reads histories.
    """
    from importlib.util import find_spec

    from stream.command.kept import NoOnnxError

    if recipe.deep_histories:
        raise NoOnnxError(
            f"model.history is {recipe.model.history!r}, and a deep part that reads histories is not written as ONNX; "
            "only one with model.history = 'none' is"
        )
    if find_spec("onnx") is None:
        raise NoOnnxError("the deep part is written as ONNX, and the package onnx is missing: pip install onnx")
