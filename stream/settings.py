"""All settings, and where they come from: defaults < a log's own < TOML file < environment < `--set`."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from learner.config import FieldSettings, LearnerSettings, ModelSettings
from state_store.client import masked_url
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.errors import OperatorError
from state_store.tasks import MAX_TASKS, Task, TaskSettings, horizon_ms, main_task, resolve_tasks
from stream.sections import EventSettings, KafkaSettings, MonitorSettings, PublishSettings, WorkerSettings

ENV_PREFIX = "COLDSTREAM_"
FAILPOINT = f"{ENV_PREFIX}FAILPOINT"
"""No setting: the place at which a process is to die (`stream/process/failpoints.py`)."""


class SettingsError(OperatorError):
    """A setting is unknown or out of bounds."""


_MOVIELENS_FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("gender", "user", "categorical"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("occupation", "user", "categorical"),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("title", "item", "multi"),
    FieldSettings("year", "item", "categorical"),
    FieldSettings("genres", "item", "multi"),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of the pipeline; each part gets its own section."""

    fields: tuple[FieldSettings, ...] = _MOVIELENS_FIELDS
    """The fields of a sample; a new data set is a new list here, not code."""
    actions: ActionSettings = ActionSettings()
    tasks: Annotated[tuple[TaskSettings, ...], Meta(max_length=MAX_TASKS)] = ()
    """The labels of a sample; without one, a task of `actions.positive`, named after them."""
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    events: EventSettings = EventSettings()
    join: JoinSettings = JoinSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    learner: LearnerSettings = LearnerSettings()
    publish: PublishSettings = PublishSettings()
    monitor: MonitorSettings = MonitorSettings()

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        for required in ("user_id", "item_id"):
            if required not in names:
                raise ValueError(f"fields: {required!r} is missing; it must be declared with kind 'id'")
        if len(set(names)) != len(names):
            raise ValueError(f"fields: a name is declared twice: {names}")
        if self.join.negative_rate < 1 and self.learner.delayed_feedback != "none":
            raise ValueError(
                f"join.negative_rate is {self.join.negative_rate}, learner.delayed_feedback is "
                f"{self.learner.delayed_feedback!r}: that loss takes every impression for a negative first; set one of "
                "them to its default (1.0, 'none')"
            )
        if not any(field.state for field in self.fields):
            raise ValueError("fields: none has state = true; the adapter needs at least one")
        resolve_tasks(self.tasks, self.actions, self.join)

    @property
    def topics(self) -> tuple[str, str]:
        """The two input topics, impressions first."""
        return self.kafka.impressions, self.kafka.feedback

    @property
    def labels(self) -> tuple[Task, ...]:
        """Every task, with its own window and attribution."""
        return resolve_tasks(self.tasks, self.actions, self.join)

    @property
    def main_task(self) -> Task:
        """The task that the model learns."""
        return self.labels[main_task(self.labels)]

    @property
    def horizon_ms(self) -> int:
        """How long after its impression feedback still counts for anything, event time."""
        return horizon_ms(self.labels, self.join)

    @property
    def main_actions(self) -> tuple[int, ...]:
        """The actions, by number, that make the main task's label 1."""
        return tuple(self.actions.names.index(name) for name in self.main_task.positive)

    def masked(self) -> dict[str, Any]:
        """The effective values, passwords hidden."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        values["redis"]["url"] = masked_url(self.redis.url)
        values["kafka"]["password"] = "***" if self.kafka.password else ""
        return values


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the sources; an unknown key fails, whatever its source.

    Args:
        file: TOML, or JSON if its suffix says so.
        environment: `COLDSTREAM_LEARNER__MICRO_BATCH=64`; default: the process's.
        overrides: `learner.micro_batch=64`; values are TOML, bare words are strings.
        defaults: what a log says of the settings, by section; every other source goes before it.

    Raises:
        SettingsError: names the setting, its value and what is allowed.

    >>> load_settings(environment={}, overrides=["learner.micro_batch=32"]).learner.micro_batch
    32
    """
    # A copy: what is merged into it must not reach the log's own.
    merged: dict[str, Any] = deepcopy(dict(defaults or {}))
    if file is not None:
        _merge(merged, _read(file))
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENV_PREFIX) and name != FAILPOINT:
            _put(merged, name[len(ENV_PREFIX) :].lower().replace("__", "."), text, f"environment {name}")
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set {override!r}: expected SECTION.NAME=VALUE, as in learner.micro_batch=64")
        _put(merged, path.strip(), text, f"--set {override}")
    try:
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(_explain(str(exc), merged)) from exc


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            values: dict[str, Any] = json.load(f) if file.suffix == ".json" else tomllib.load(f)
            return values
    except OSError as exc:
        raise SettingsError(
            f"--config {file}: cannot be read ({exc.strerror}); give the path of a TOML or JSON file"
        ) from exc
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"--config {file}: not valid TOML (or JSON, by its suffix): {exc}") from exc


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _put(into: dict[str, Any], path: str, text: str, source: str) -> None:
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, name = path.split(".")
    for section in sections:
        into = into.setdefault(section, {})
        if not isinstance(into, dict):
            raise SettingsError(f"{source}: {section!r} is a value, not a section")
    into[name] = value


def _explain(message: str, merged: Mapping[str, Any]) -> str:
    """Add the offending value, or the known names, to msgspec's message."""
    problem, _, where = message.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if "unknown field" in problem:
        section: Any = Settings
        for part in filter(None, path.split(".")):
            section = section.__annotations__.get(part, section)
        known = ", ".join(getattr(section, "__struct_fields__", ()))
        unknown = problem.split("`")[1]
        return f"unknown setting {'.'.join(filter(None, (path, unknown)))!r}; known here: {known}"
    value: Any = merged
    for part in filter(None, path.replace("[", ".[").split(".")):
        if part.startswith("["):
            at = part.strip("[]")
            value = value[int(at)] if isinstance(value, list) and at.isdigit() else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return f"setting {path or 'as given'}: {problem}" + (f", got {value!r}" if path and value is not None else "")
