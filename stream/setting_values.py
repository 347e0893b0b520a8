"""What a setting's declared type makes of a text, which settings there are, and which of them are secret."""

import math
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from state_store.address.redis_url import passwords_in

WHOLE = "whole"
"""Mark of a field (`Meta(extra={"secret": WHOLE})`) whose value is a secret."""


class Declared(msgspec.Struct, frozen=True):
    """A setting as it is declared."""

    path: tuple[str, ...]
    type: inspect.Type
    secret: str
    """Empty: nothing; `WHOLE`; or what of its value is one."""


def declared(kind: type[msgspec.Struct]) -> dict[tuple[str, ...], Declared]:
    """Every setting of a struct and of those in it, by its path."""
    return {found.path: found for found in _walk(inspect.type_info(kind), ())}


def _walk(kind: inspect.Type, path: tuple[str, ...]) -> Iterator[Declared]:
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        at = (*path, field.encode_name)
        plain, extra = _plain(field.type)
        if isinstance(plain, inspect.StructType):
            yield from _walk(plain, at)
        else:
            yield Declared(at, plain, str(extra.get("secret", "")))


def _plain(kind: inspect.Type) -> tuple[inspect.Type, Mapping[str, Any]]:
    if isinstance(kind, inspect.Metadata):
        return kind.type, kind.extra or {}
    return kind, {}


def from_text(setting: Declared | None, text: str, *, unquote: bool) -> Any:
    """The value that a text stands for: a string as it is, anything else as TOML.

    Args:
        setting: None if there is none of that name.
        text: as it was given.
        unquote: whether a string may stand in TOML's quotes.

    >>> from stream.sections import KafkaSettings
    >>> known = declared(KafkaSettings)
    >>> [from_text(known[(name,)], "8", unquote=False) for name in ("password", "partitions")]
    ['8', 8]
    """
    is_text = setting is not None and _takes_text(setting.type)
    if is_text and not (unquote and re.match(r"\s*(\"|')", text)):
        return text
    try:
        read = tomllib.loads(f"v = {text}")
    except (ValueError, RecursionError):
        return text
    value = read["v"]
    # More than one line of TOML is more than one value; and what a string was quoted for is a string.
    if len(read) > 1 or (is_text and not isinstance(value, str)):
        return text
    is_float = setting is not None and isinstance(setting.type, inspect.FloatType)
    # So that it is refused by its bounds.
    return math.inf if is_float and isinstance(value, int) and abs(value) > sys.float_info.max else value


def _takes_text(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(_takes_text(_plain(each)[0]) for each in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return all(isinstance(value, str) for value in kind.values)
    return isinstance(kind, inspect.StrType)


def secret_values(settings: Mapping[tuple[str, ...], Declared], values: Mapping[str, Any]) -> Iterator[str]:
    """The secrets among values as they were given, whatever form these have."""
    for setting in settings.values():
        value = value_at(values, setting.path)
        if not setting.secret or value in (None, ""):
            continue
        if setting.secret == WHOLE:
            yield str(value)
        else:
            yield from passwords_in(str(value))


def value_at(values: Any, path: Sequence[str]) -> Any:
    """The value at a path, None if there is none; `[2]` is a place in a list."""
    for part in path:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, list | tuple) and part.strip("[]").isdigit() and int(part.strip("[]")) < len(values):
            values = values[int(part.strip("[]"))]
        else:
            return None
    return values


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Put values over others, section by section."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
