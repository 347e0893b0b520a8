"""Event features -> the ordered, typed values of a sample, by the declared fields."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET

from learner.config import FieldSettings
from learner.sample import FeatureValue
from stream.events import PLACES, Impression, MalformedEventError, RawFeature

_OWN_IDS = ("user_id", "item_id")
_SHOWN = (*PLACES, "propensity", "served")
_MAX_VALUES = 256


def _as_text(name: str, value: RawFeature) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    raise MalformedEventError(f"features.{name}: expected one string or number, got {type(value).__name__}")


def _as_texts(name: str, value: RawFeature) -> list[str]:
    values = value if isinstance(value, list) else [_as_text(name, value)]
    if len(values) > _MAX_VALUES:
        raise MalformedEventError(f"features.{name}: {len(values)} values, at most {_MAX_VALUES} are allowed")
    return [str(v) for v in values]


def _as_number(name: str, value: RawFeature) -> float:
    if isinstance(value, int | float) and -1e9 <= value <= 1e9:
        return float(value)
    raise MalformedEventError(f"features.{name}: expected a number between -1e9 and 1e9, got {value!r:.80}")


_CONVERT: dict[str, Callable[[str, RawFeature], FeatureValue]] = {
    "id": _as_text,
    "categorical": _as_text,
    "multi": _as_texts,
    "numeric": _as_number,
}


def shown_of(event: Impression) -> list[object] | None:
    """How an impression was shown, in the form of `learner.sample.Shown`; None if its event does not say.

    >>> shown_of(Impression(imp_id="a", user_id="u", item_id="i", ts=1, position=3))
    [None, None, 3, None, None, None]
    """
    given = [getattr(event, name) for name in _SHOWN]
    if all(value is UNSET for value in given):
        return None
    *values, served = [None if value is UNSET else value for value in given]
    return [*values, *((None, None) if served is None else (served.probability, served.version))]


class FeatureExtractor:
    """Orders and checks an impression's features. A field that the event lacks, or gives as null, stays empty.

    >>> fields = [FieldSettings("user_id", "user", "id"), FieldSettings("age", "user", "categorical")]
    >>> FeatureExtractor(fields).extract({"age": 25, "other": 1})
    ['25']
    """

    def __init__(self, fields: Sequence[FieldSettings]) -> None:
        self._plan = [(f.name, _CONVERT[f.kind]) for f in fields if f.name not in _OWN_IDS]
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

    def extract(self, features: Mapping[str, RawFeature]) -> list[FeatureValue]:
        """Values in the order of the declared fields, user and item id left out.

        Raises:
            MalformedEventError: a value is not of its field's kind.
        """
        get = features.get
        return [None if (value := get(name)) is None else convert(name, value) for name, convert in self._plan]
