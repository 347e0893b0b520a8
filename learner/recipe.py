"""What a model is made of: everything that its learner, its scorer and its twin must have in common."""

from functools import lru_cache

import msgspec

from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.fast.config import CrossSettings, FastRecipe, FastSettings
from learner.samples.layout import Layout


class Recipe(msgspec.Struct, frozen=True):
    """Settings of a model, of one pipeline."""

    fields: tuple[FieldSettings, ...]
    actions: tuple[str, ...] = ("like",)
    """Feedback that is counted."""
    positive: tuple[int, ...] = (0,)
    """Those, by number, that make the main task's label 1."""
    model: ModelSettings = ModelSettings()
    fast: FastSettings = FastSettings()
    crosses: tuple[CrossSettings, ...] = ()
    learner: LearnerSettings = LearnerSettings()
    settles: bool = False
    """Whether negatives are settled (`join.settle_ms`), and believed only so far until then."""

    @property
    def layout(self) -> Layout:
        """Of the samples."""
        return _layout(self.fields, self.actions)

    @property
    def num_counts(self) -> int:
        """C, counters of user and item together."""
        return 2 * (1 + len(self.actions))

    @property
    def has_deep(self) -> bool:
        """Whether there is a deep part."""
        return self.model.deep != "none"

    @property
    def fast_recipe(self) -> FastRecipe:
        """The fast part's settings with the crosses."""
        return FastRecipe(**msgspec.structs.asdict(self.fast), crosses=self.crosses)

    def field(self, name: str) -> int:
        """Number of a field."""
        return [field.name for field in self.fields].index(name)


@lru_cache(maxsize=64)
def _layout(fields: tuple[FieldSettings, ...], actions: tuple[str, ...]) -> Layout:
    return Layout(fields, actions)
