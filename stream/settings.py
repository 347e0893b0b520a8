"""All settings, and where they come from: defaults < a log's own < TOML file < environment < `--set`."""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from learner.config import FieldSettings, HistorySettings, LearnerSettings, ModelSettings
from learner.content.config import ContentStartSettings, starts_of
from learner.content.words import words_of
from learner.fast.config import CrossSettings, FastSettings
from learner.fusion.config import FusionSettings
from learner.recipe import Recipe, TaskRecipe
from state_store.address.redis_url import HIDDEN, masked_url
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.errors import OperatorError
from state_store.tasks import MAX_TASKS, Task, TaskSettings, horizon_ms, main_task, resolve_tasks, settled_after_ms
from stream.declared import movielens
from stream.declared.histories import check_histories
from stream.environment import NearlyASettingError, settings_in
from stream.secrets import SECRETS
from stream.sections import (
    EventSettings,
    KafkaSettings,
    MonitorSettings,
    PublishSettings,
    ServingSettings,
    WorkerSettings,
)
from stream.setting_values import WHOLE, Declared, declared, from_text, merge, secret_values, value_at

_Path = tuple[str, ...]


class SettingsError(OperatorError):
    """A setting is unknown or out of bounds."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every setting of the pipeline; each part gets its own section."""

    fields: tuple[FieldSettings, ...] = movielens.FIELDS
    """The fields of a sample; a new data set is a new list here, not code."""
    actions: ActionSettings = ActionSettings()
    tasks: Annotated[tuple[TaskSettings, ...], Meta(max_length=MAX_TASKS)] = ()
    """The labels of a sample; without one, a task of `actions.positive`, named after them."""
    histories: Annotated[tuple[HistorySettings, ...], Meta(max_length=8)] = ()
    """What each user did lately, kept in Redis and carried by samples; without one, nothing of it is."""
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    events: EventSettings = EventSettings()
    join: JoinSettings = JoinSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    fast: FastSettings = FastSettings()
    crosses: Annotated[tuple[CrossSettings, ...], Meta(max_length=64)] | None = None
    """Pairs of fields whose values are learned together, too, in the fast part; default: `user_id` with `genres` and
    with `decade`, where there are such fields."""
    content_start: ContentStartSettings = ContentStartSettings()
    """What new items start with."""
    user_start: ContentStartSettings = ContentStartSettings()
    """What new users start with."""
    learner: LearnerSettings = LearnerSettings()
    fusion: FusionSettings = FusionSettings()
    publish: PublishSettings = PublishSettings()
    monitor: MonitorSettings = MonitorSettings()
    serving: ServingSettings = ServingSettings()

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        for required in ("user_id", "item_id"):
            if required not in names:
                raise ValueError(f"fields: {required!r} is missing; it must be declared with kind 'id'")
        if len(set(names)) != len(names):
            raise ValueError(f"fields: a name is declared twice: {names}")
        if self.join.negative_rate < 1 and self.learner.delayed_feedback in {"fnw", "fnc"}:
            raise ValueError(
                f"join.negative_rate is {self.join.negative_rate}, learner.delayed_feedback is "
                f"{self.learner.delayed_feedback!r}: that loss takes every impression for a negative first; set one of "
                "them to its default (1.0, 'undo')"
            )
        unknown = sorted({name for cross in self.crosses or () for name in cross.fields} - set(names))
        if unknown:
            raise ValueError(f"crosses: {unknown} are not among the declared fields {names}")
        if not any(field.state for field in self.fields):
            raise ValueError("fields: none has state = true; the adapter needs at least one")
        check_histories(self.histories, self.fields, self.actions)
        resolve_tasks(self.tasks, self.actions, self.join)
        if self.learner.tasks == "all" and self.join.negative_rate < 1:
            raise ValueError(
                f"join.negative_rate is {self.join.negative_rate}, learner.tasks is 'all': impressions are left out by "
                "the main task's label, which would bias the other tasks; set one of them to its default (1.0, 'main')"
            )
        self.fusion.check([task.name for task in self.labels])
        self.serving.check(self.join)
        # What is wrong with the model is told with the other settings.
        # Files are looked at here alone, and not whenever the recipe is asked for, as scorers do for a request.
        for kind, starts in starts_of(self.recipe).items():
            words_of(starts, self.fields, kind)

    @property
    def _effective_crosses(self) -> tuple[CrossSettings, ...]:
        if self.crosses is not None:
            return self.crosses
        names = {field.name for field in self.fields}
        return tuple(cross for cross in movielens.CROSSES if names.issuperset(cross.fields))

    @property
    def recipe(self) -> Recipe:
        """What the model is made of."""
        return Recipe(
            self.fields,
            self.actions.names,
            self.main_actions,
            self.model,
            self.fast,
            self._effective_crosses,
            self.learner,
            settled_after_ms(self.labels, self.join) > 0,
            self._task_recipes,
            self.content_start,
            self.histories,
            self.user_start,
        )

    @property
    def _task_recipes(self) -> tuple[TaskRecipe, ...]:
        at_once = self.join.mode == "immediate"
        return tuple(
            TaskRecipe(task.name, self.actions_of(task), task.window_ms, task.is_main, at_once, task.value_unit)
            for task in self.labels
        )

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
    def learned_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have a score: all, or the main one."""
        if self.learner.tasks == "all":
            return tuple(task.name for task in self.labels)
        return (self.main_task.name,)

    @property
    def horizon_ms(self) -> int:
        """How long after its impression feedback still counts for anything, event time."""
        return horizon_ms(self.labels, self.join)

    @property
    def main_actions(self) -> tuple[int, ...]:
        """The actions, by number, that make the main task's label 1."""
        return self.actions_of(self.main_task)

    def actions_of(self, task: Task) -> tuple[int, ...]:
        """The actions, by number, that make a task's label 1."""
        return tuple(self.actions.names.index(name) for name in task.positive)

    def masked(self) -> dict[str, Any]:
        """The effective values, secrets hidden."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        for (*sections, name), setting in _declared().items():
            holder = value_at(values, sections)
            if setting.secret and holder[name]:
                holder[name] = HIDDEN if setting.secret == WHOLE else masked_url(holder[name])
        return values


@cache
def _declared() -> dict[_Path, Declared]:
    return declared(Settings)


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    given: Mapping[str, str] | None = None,
) -> Settings:
    """Merge the sources; an unknown key fails, whatever its source.

    A setting that is a string takes the text as it is; what else it may be is TOML.

    Args:
        file: TOML, or JSON if its suffix says so.
        environment: `COLDSTREAM_LEARNER__MICRO_BATCH=64`; default: the process's.
        overrides: `learner.micro_batch=64`; a string may stand in TOML's quotes.
        defaults: what a log says of the settings, by section; every other source goes before it.
        given: strings by the name of their setting, as `kafka.url`; these go before every other source.

    Raises:
        SettingsError: names the setting, its value and what is allowed; a secret's value is not shown.

    >>> load_settings(environment={}, overrides=["learner.micro_batch=32"]).learner.micro_batch
    32
    """
    sources = _Sources(deepcopy(dict(defaults or {})))  # a copy: what is merged into it must not reach the log's own
    if file is not None:
        merge(sources.values, _read(file))
    try:
        for name, path, text in settings_in(os.environ if environment is None else environment, _declared()):
            sources.put(path, text, f"environment {name}", unquote=False)
    except NearlyASettingError as exc:
        raise SettingsError(str(exc)) from exc
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            shown = (re.match(r"[A-Za-z0-9_.]*", override) or [""])[0]
            raise SettingsError(f"--set {shown}: expected SECTION.NAME=VALUE, as in learner.micro_batch=64")
        sources.put(tuple(name.strip().split(".")), text, f"--set {name.strip()}", unquote=True)
    for name, text in (given or {}).items():
        sources.put(tuple(name.split(".")), text, name, unquote=False)
    for secret in secret_values(_declared(), sources.values):
        SECRETS.add(secret)
    try:
        return msgspec.convert(sources.values, Settings, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(SECRETS.mask(sources.explain(str(exc)))) from None  # its cause shows what was given


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as f:
            values: dict[str, Any] = json.load(f) if file.suffix == ".json" else tomllib.load(f)
    except OSError as exc:
        raise SettingsError(
            f"--config {file}: cannot be read ({exc.strerror}); give the path of a TOML or JSON file"
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"--config {file}: not valid TOML (or JSON, by its suffix): {exc}") from exc
    if not isinstance(values, dict):
        raise SettingsError(f'--config {file}: expected an object of sections, as in {{"learner": {{...}}}}')
    return values


class _Sources:
    """What was given so far, and where the values come from that are no file's."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self._of: dict[_Path, str] = {}

    def put(self, path: _Path, text: str, source: str, *, unquote: bool) -> None:
        into = self.values
        *sections, name = path
        for section in sections:
            into = into.setdefault(section, {})
            if not isinstance(into, dict):
                raise SettingsError(f"{source}: {section!r} is a value, not a section")
        into[name] = from_text(_declared().get(path), text, unquote=unquote)
        self._of[path] = source

    def explain(self, message: str) -> str:
        """Add the offending value, or the known names, to msgspec's message."""
        problem, _, where = message.partition(" - at `$")
        path = tuple(filter(None, where.rstrip("`").lstrip(".").replace("[", ".[").split(".")))
        if "unknown field" in problem:
            return self._unknown(path, problem.split("`")[1])
        name, value = ".".join(path).replace(".[", "["), value_at(self.values, path)
        # A section's own check names what is wrong; its values may hold a secret.
        is_shown = not isinstance(value, dict | list | None) and not self._is_secret(path)
        said = f"{problem}, got {value!r:.80}" if is_shown else problem
        return f"setting {name or 'as given'}{self._from(path)}: {said}"

    def _is_secret(self, path: _Path) -> bool:
        setting = _declared().get(path)
        return setting is not None and bool(setting.secret)

    def _unknown(self, path: _Path, name: str) -> str:
        section: Any = Settings
        for part in path:
            section = section.__annotations__.get(part, section)
        known = ", ".join(getattr(section, "__struct_fields__", ()))
        return f"unknown setting {'.'.join((*path, name))!r}{self._from((*path, name))}; known here: {known}"

    def _from(self, path: _Path) -> str:
        """The variables that set it, or something in it: what else was typed bears the setting's own name."""
        sources = [source for at, source in self._of.items() if path and at[: len(path)] == path]
        variables = [source for source in sources if source.startswith("environment")]
        return f" ({', '.join(variables)})" if variables else ""
