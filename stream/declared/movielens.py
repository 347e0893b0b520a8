"""The fields that samples have where no others are declared: MovieLens'."""

from learner.config import FieldSettings
from learner.fast.config import CrossSettings

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("gender", "user", "categorical"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("occupation", "user", "categorical"),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("title", "item", "multi"),
    FieldSettings("year", "item", "categorical"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("decade", "item", "categorical"),
)
CROSSES = (CrossSettings(("user_id", "genres")), CrossSettings(("user_id", "decade")))
