"""Which fields samples have that are dictionaries: declared ones, or those that have come so far."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learner.config import FieldSettings
from learner.estimator.values import Kind, is_missing, number_of, suggested_kind, text_of, texts_of
from learner.samples.layout import FeatureValue

USER_FIELD, ITEM_FIELD = "user_id", "item_id"
UNKNOWN = ""
"""Id of a user or item that a sample does not name. It is never counted, so it stays a cold one."""
_MAX_FIELDS = 256
"""What a table can tell apart."""
Features = Mapping[Any, Any]
"""A sample: names to values."""


class FieldBook:
    """Fields in the order in which they came; the ids' come first.

    Args:
        declared: features that samples have, by name; others are not looked at. `user_id` and `item_id` may be among
            them, to say how ids are learned. None: whatever comes is a context field of the kind that its first value
            suggests, the new ones of a sample in the order of the alphabet.
        user: name under which a sample says its user.
        item: name under which a sample says its item.

    Raises:
        ValueError: names that are the same.

    >>> book = FieldBook(None, user="user", item="item")
    >>> book.infer([{"user": 7, "hour": 3, "age": 25.0}]), [(f.name, f.kind) for f in book.fields[2:]]
    (True, [('age', 'numeric'), ('hour', 'categorical')])
    >>> book.values({"user": 7, "age": 25, "new": "x"})
    ('7', '', [25.0, None])
    """

    def __init__(self, declared: Sequence[FieldSettings] | None, *, user: str, item: str) -> None:
        if user == item:
            raise ValueError(f"user and item are both said under {user!r}: give two names")
        self._user, self._item = user, item
        self._infers = declared is None
        own = {
            USER_FIELD: FieldSettings(USER_FIELD, "user", "id", state=True),
            ITEM_FIELD: FieldSettings(ITEM_FIELD, "item", "id", state=True),
        }
        for field in declared or ():
            if field.name in own and field.kind != "id":
                raise ValueError(f"field {field.name!r} must be of kind 'id', got {field.kind!r}")
        names = [field.name for field in declared or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"fields must have different names; declared twice: {', '.join(twice)}")
        ids = own | {field.name: field for field in declared or () if field.name in own}
        self.fields = (*ids.values(), *(field for field in declared or () if field.name not in own))
        self._check_number(len(self.fields))

    def infer(self, samples: Iterable[Features]) -> bool:
        """Take in the fields that are new; returns whether there are any.

        Raises:
            TypeError: a value of a type from which no kind follows.
            ValueError: too many fields, or a feature that has the name of an id.
        """
        if not self._infers:
            return False
        known = {field.name for field in self.fields[2:]} | {self._user, self._item}
        found: list[FieldSettings] = []
        for sample in samples:
            if sample.keys() <= known:
                continue
            new: dict[str, Kind] = {}
            for key, value in sample.items():
                name = str(key)
                if name not in known and not is_missing(value):
                    new[name] = self._kind(name, value)
            known |= new.keys()
            found += [FieldSettings(name, "context", kind) for name, kind in sorted(new.items())]
        self._check_number(len(self.fields) + len(found))
        self.fields = (*self.fields, *found)
        return bool(found)

    def values(self, sample: Features) -> tuple[str, str, list[FeatureValue]]:
        """User, item, and the values of the other fields in order; None where one is missing.

        Raises:
            TypeError: a value that does not go with its field.
        """
        features = sample if all(type(key) is str for key in sample) else {str(k): v for k, v in sample.items()}
        user, item = features.get(self._user), features.get(self._item)
        return (
            UNKNOWN if is_missing(user) else text_of(user),
            UNKNOWN if is_missing(item) else text_of(item),
            [_value(field, features.get(field.name)) for field in self.fields[2:]],
        )

    def _kind(self, name: str, value: Any) -> Kind:
        if name in (USER_FIELD, ITEM_FIELD):
            which = "user" if name == USER_FIELD else "item"
            raise ValueError(
                f"a sample has the feature {name!r}, while its {which} is said under "
                f"{self._user if which == 'user' else self._item!r}: pass {which}={name!r}, or rename the feature"
            )
        return suggested_kind(name, value)

    def _check_number(self, number: int) -> None:
        if number > _MAX_FIELDS:
            raise ValueError(
                f"samples have {number} fields, ids included; at most {_MAX_FIELDS} can be learned: declare `fields`, "
                "or give what belongs together as one list"
            )


def _value(field: FieldSettings, value: Any) -> FeatureValue:
    if is_missing(value):
        return None
    if field.kind == "numeric":
        return number_of(field.name, value)
    return texts_of(field.name, value) if field.kind == "multi" else text_of(value)
