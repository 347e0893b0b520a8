"""An arm: a pipeline's settings, and what an experiment does to it."""

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from simulators.logs.log import recorded
from simulators.world.parameters import Parameters
from simulators.world.rows import settings_of
from state_store.errors import OperatorError
from stream.setting_values import merge
from stream.settings import Settings, load_settings


class ArmError(OperatorError):
    """An arm's file cannot be used."""


class ArmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an experiment does to a pipeline: the table `arm` of its file."""

    frozen: bool = False
    """From the test's beginning on, its scorer keeps the weights that it has."""
    noise: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Standard deviation of noise that is added to the rank scores, which are logits: a known harm."""


class Arm(msgspec.Struct, frozen=True):
    """One of the two."""

    name: str
    how: ArmSettings
    settings: Settings


def load_arm(name: str, file: Path | None, parameters: Parameters) -> Arm:
    """Read an arm's file: settings of a pipeline, and perhaps a table `arm`; what it leaves out is as the world says.

    Args:
        name: of the arm; its keys in Redis begin with it.
        file: TOML; None: nothing but the world's own.
        parameters: of the world.

    Raises:
        ArmError: it cannot be read, its table `arm` is not of its form, or it declares what the world does not have.
        SettingsError: a setting is unknown or out of bounds.
    """
    said = {} if file is None else _read(file)
    try:
        how = msgspec.convert(said.pop("arm", {}), ArmSettings)
    except msgspec.ValidationError as exc:
        raise ArmError(f"arm {file}: [arm]: {exc}") from exc
    defaults: dict[str, Any] = deepcopy(recorded(settings_of(parameters)))
    merge(defaults, said)
    # One partition, and nobody who watches: what is decided then depends on nothing but the seed.
    fixed = ["kafka.partitions=1", f"redis.prefix={name}", "monitor.enabled=false", "join.as_served=false"]
    settings = load_settings(overrides=fixed, defaults=defaults)
    lacking = _lacking(settings, parameters)
    if lacking:
        raise ArmError(f"arm {file}: {lacking}")
    return Arm(name, how, settings)


def _lacking(settings: Settings, parameters: Parameters) -> str:
    """What is declared that a world does not have, and what to do; empty if it has all."""
    if settings.histories:
        names = [history.name for history in settings.histories]
        return f"histories {names}: a test in a world gives candidates none; declare none"
    there = {"user_id", "item_id", *parameters.users.attributes, *parameters.items.attributes}
    single = ("id", "categorical")
    unknown = [field.name for field in settings.fields if field.name not in there or field.kind not in single]
    if not unknown:
        return ""
    return f"fields {unknown}: a world has {sorted(there)}, each with one value; declare those only"


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ArmError(f"arm {file}: {exc.strerror}; give the TOML file of a pipeline's settings") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ArmError(f"arm {file}: not TOML: {exc}") from exc
