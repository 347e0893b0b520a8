"""Arrays by name: those of a part, whose names begin with a prefix."""

from collections.abc import Mapping
from typing import TypeVar

_T = TypeVar("_T")


def below(prefix: str, named: Mapping[str, _T]) -> dict[str, _T]:
    """Those whose name begins with a prefix, without it.

    >>> below("fast.", {"fast.w": 1, "deep.w": 2})
    {'w': 1}
    """
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
