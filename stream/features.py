"""Event features -> the ordered, typed values of a sample, by the declared fields."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from types import NoneType
from typing import Any

from msgspec import UNSET

from learner.config import FieldSettings
from learner.samples.asked import Column, Shared
from learner.samples.layout import FeatureValue
from stream.events import PLACES, Impression, MalformedEventError, Unreadable

_OWN_IDS = ("user_id", "item_id")
_SHOWN = (*PLACES, "propensity", "served")
_shown_of = attrgetter(*_SHOWN)
_NOTHING_SHOWN = (UNSET,) * len(_SHOWN)
_MAX_VALUES = 256


_IN_WORDS = {
    dict: "an object",
    list: "a list",
    bytes: "bytes",
    str: "a string",
    int: "a number",
    float: "a number",
    NoneType: "null",
}


def _wrong(name: str, expected: str, value: object) -> MalformedEventError:
    if isinstance(value, Unreadable):
        return MalformedEventError(f"features.{name}: {value.why}")
    got = _IN_WORDS.get(type(value), type(value).__name__)
    return MalformedEventError(f"features.{name}: expected {expected}, got {got}")


def _as_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return _digits(name, value)
    raise _wrong(name, "one string or number", value)


def _digits(name: str, value: float) -> str:
    try:
        return str(value)
    except ValueError as exc:
        # Python converts no more than 4300 digits.
        raise MalformedEventError(f"features.{name}: a number of too many digits") from exc


def _as_texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list):
        return [_as_text(name, value)]
    if len(value) > _MAX_VALUES:
        raise MalformedEventError(f"features.{name}: {len(value)} values, at most {_MAX_VALUES} are allowed")
    return [v if type(v) is str else _as_element(name, v) for v in value]


def _as_element(name: str, value: object) -> str:
    if type(value) is not int:
        raise _wrong(name, "a list of strings and whole numbers", value)
    return _digits(name, value)


def _as_number(name: str, value: object) -> float:
    if isinstance(value, int | float):
        if -1e9 <= value <= 1e9:
            return float(value)
        raise MalformedEventError(
            f"features.{name}: expected a number between -1e9 and 1e9, got {_digits(name, value):.80}"
        )
    raise _wrong(name, "a number between -1e9 and 1e9", value)


_CONVERT: dict[str, Callable[[str, Any], FeatureValue]] = {
    "id": _as_text,
    "categorical": _as_text,
    "multi": _as_texts,
    "numeric": _as_number,
}


def shown_of(event: Impression) -> list[object] | None:
    """How an impression was shown, in the form of `Layout.pack_core`; None if its event does not say.

    >>> shown_of(Impression(imp_id="a", user_id="u", item_id="i", ts=1, position=3))
    [None, None, 3, None, None, None, None, None, None]
    """
    given = _shown_of(event)
    if given == _NOTHING_SHOWN:
        return None
    *values, served = [None if value is UNSET else value for value in given]
    if served is None:
        return [*values, None, None, None, None, None]
    return [*values, served.probability, served.version, served.arm, served.canary, served.other]


class FeatureExtractor:
    """Orders and checks an impression's features. A field that the event lacks, or gives as null, stays empty.

    >>> fields = [FieldSettings("user_id", "user", "id"), FieldSettings("age", "user", "categorical")]
    >>> FeatureExtractor(fields).extract({"age": 25, "other": 1})
    ['25']
    """

    def __init__(self, fields: Sequence[FieldSettings]) -> None:
        self._plan = [(f.name, _CONVERT[f.kind]) for f in fields if f.name not in _OWN_IDS]
        # Most values are text where text is asked for: these need no call.
        self._typed = [(name, convert, str if convert is _as_text else None) for name, convert in self._plan]
        self._reserved = [f.name for f in fields if f.name in PLACES]

    def extract_from(self, event: Impression) -> list[FeatureValue]:
        """The same of an event, whose domain, stage and position are features, too, where fields are named so.

        Raises:
            MalformedEventError: a value is not of its field's kind.
        """
        if not self._reserved:
            return self.extract(event.features)
        given = {name: value for name in self._reserved if (value := getattr(event, name)) is not UNSET}
        return self.extract({**given, **event.features})

    def extract(self, features: Mapping[str, Any]) -> list[FeatureValue]:
        """Values in the order of the declared fields, user and item id left out.

        Raises:
            MalformedEventError: a value is not of its field's kind.
        """
        get = features.get
        return [
            value if (value := get(name)) is None or type(value) is expected else convert(name, value)
            for name, convert, expected in self._typed
        ]

    def columns(self, common: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> list[Column]:
        """The same of many at once, field by field, of which each has its own features before common ones.

        Raises:
            MalformedEventError: a value is not of its field's kind.

        >>> fields = [FieldSettings("user_id", "user", "id"), FieldSettings("age", "user", "categorical")]
        >>> FeatureExtractor(fields).columns({"age": 25}, [{}, {"age": 30}])
        [['25', '30']]
        """
        names = set().union(*own)
        return [
            self._column(name, convert, common.get(name), own if name in names else ()) for name, convert in self._plan
        ]

    def _column(
        self, name: str, convert: Callable[[str, Any], FeatureValue], common: Any, own: Sequence[Mapping[str, Any]]
    ) -> Column:
        if not own:
            return Shared(None if common is None else convert(name, common))
        return [None if (value := of.get(name, common)) is None else convert(name, value) for of in own]
