"""Values of a dictionary -> what a field of each kind takes, and which kind a value suggests."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

Kind = Literal["id", "categorical", "multi", "numeric"]
_MAX_NUMBER = float(np.finfo(np.float32).max)
_MISSING_TYPES = frozenset({"NAType", "NaTType"})
"""Of pandas, which need not be installed."""
_MAX_VALUES = (1 << 16) - 1
"""Of one multi-valued field; a row of a sample has two bytes for their number."""


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, a float that is no number, or what pandas has for either.

    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing(0)
    (True, True, False, False)
    """
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    return value is None or type(value).__name__ in _MISSING_TYPES


def suggested_kind(name: str, value: Any) -> Kind:
    """The kind of a field whose first value this is.

    Strings, booleans and integers are categories, floats are numbers, lists, tuples and sets have several values.

    Raises:
        TypeError: a value of another type.

    >>> suggested_kind("age", 25), suggested_kind("age", 25.0), suggested_kind("genres", {"Comedy"})
    ('categorical', 'numeric', 'multi')
    """
    if isinstance(value, (str, bool, int, np.bool_, np.integer)):
        return "categorical"
    if isinstance(value, (float, np.floating)):
        return "numeric"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "multi"
    raise TypeError(
        f"feature {name!r} is a {type(value).__name__}, {value!r}; inferred are str, bool and int (categories), float "
        "(numbers), list, tuple and set (several values): convert it, or declare `fields` with or without it"
    )


def text_of(value: Any) -> str:
    """A category's name; a whole number has the same as an integer and as a float.

    >>> text_of("a"), text_of(3), text_of(3.0), text_of(True), text_of(0.5)
    ('a', '3', '3', 'True', '0.5')
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    # A column of integers in which one is missing is one of floats in a frame.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def number_of(name: str, value: Any) -> float | None:
    """A number that a sample can hold, or None for one that it cannot (infinite, or beyond a 32-bit float).

    Raises:
        TypeError: it is no number.

    >>> number_of("price", 2), number_of("price", float("inf"))
    (2.0, None)
    """
    if not isinstance(value, (int, float, np.number, np.bool_)):
        raise TypeError(
            f"feature {name!r} is numeric, got the {type(value).__name__} {value!r}: convert it to a float, or declare "
            "the field as categorical in `fields`"
        )
    number = float(value)
    return number if abs(number) <= _MAX_NUMBER else None


def texts_of(name: str, value: Any) -> list[str] | None:
    """Categories of a multi-valued field, those of a set in the order of the alphabet; None if there is none.

    Raises:
        TypeError: a dictionary, which could mean its keys as well as its values.
        ValueError: more values than a sample can hold.

    >>> texts_of("genres", {"Drama", "Comedy"}), texts_of("genres", "Comedy"), texts_of("genres", [])
    (['Comedy', 'Drama'], ['Comedy'], None)
    """
    if isinstance(value, Mapping):
        raise TypeError(f"feature {name!r} has several values, got a {type(value).__name__}: give a list or a set")
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    texts = [text_of(each) for each in (value if several else [value]) if not is_missing(each)]
    if len(texts) > _MAX_VALUES:
        raise ValueError(f"feature {name!r} has {len(texts):,} values; a sample holds at most {_MAX_VALUES:,} of one")
    return (sorted(texts) if isinstance(value, (set, frozenset)) else texts) or None
