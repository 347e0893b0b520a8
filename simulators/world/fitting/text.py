"""A world's parameters as TOML."""

from typing import Any

import msgspec

from simulators.world.parameters import Parameters


def as_toml(parameters: Parameters) -> str:
    """Every parameter; `load_parameters` reads it back.

    >>> msgspec.toml.decode(as_toml(Parameters()).encode(), type=Parameters) == Parameters()
    True
    """
    return "\n".join(_lines(msgspec.to_builtins(parameters), "")).lstrip() + "\n"


def _lines(table: dict[str, Any], name: str) -> list[str]:
    nested = (list, tuple, dict)
    plain = {key: value for key, value in table.items() if not isinstance(value, nested) or _is_flat(value)}
    lines = [f"\n[{name}]"] if name and plain else []
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if key in plain:
            continue
        if isinstance(value, dict):
            lines += _lines(value, f"{name}.{key}" if name else key)
        else:
            for each in value:
                lines += [f"\n[[{key}]]", *_lines(each, "")]
    return lines


def _is_flat(value: Any) -> bool:
    """Whether it is a table of numbers only, or an empty one."""
    return isinstance(value, dict) and all(isinstance(each, int | float) for each in value.values()) and len(value) < 5


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)
