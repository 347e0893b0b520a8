"""What a model is made of: everything that its learner, its scorer and its twin must have in common."""

from functools import lru_cache

import msgspec

from learner.config import BY_SAMPLE, FieldSettings, HistorySettings, LearnerSettings, ModelSettings
from learner.content.config import ContentStartSettings, check_fields, starts_of
from learner.fast.config import CrossSettings, FastRecipe, FastSettings
from learner.samples.layout import Layout


class TaskRecipe(msgspec.Struct, frozen=True):
    """One task, as the learner has to know it."""

    name: str
    positive: tuple[int, ...]
    """Actions, by number, that make its label 1."""
    window_ms: int = 0
    """A positive with a longer delay turns a negative that was told before; one within it is told first."""
    is_main: bool = False
    told_at_once: bool = False
    """Whether every impression was told as a negative first, so that each positive turns one."""
    value_unit: float = 0.0
    """Above 0: the value of its action is learned, in this unit."""


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
    tasks: tuple[TaskRecipe, ...] = ()
    """All tasks, in the order of their bits in `labels` and `known`; read only where `learner.tasks` is `all`."""
    content_start: ContentStartSettings = ContentStartSettings()
    """What new items start with."""

    histories: tuple[HistorySettings, ...] = ()
    """What samples carry of what a user did."""
    user_start: ContentStartSettings = ContentStartSettings()
    """What new users start with."""

    def __post_init__(self) -> None:
        for kind, starts in starts_of(self).items():
            check_fields(starts, self.fields, kind)
        if self.has_deep and self.model.history != "none" and not self.histories:
            raise ValueError(
                f"model.history is {self.model.history!r}, and no [[histories]] are declared; declare one, or set it "
                "to 'none'"
            )
        self._check_tokens()
        if not self.learns_all:
            return
        if sum(task.is_main for task in self.tasks) != 1:
            raise ValueError(
                f"learner.tasks is 'all': one of the tasks must be the main one, got {[t.name for t in self.tasks]}"
            )
        values = [task.name for task in self.tasks if task.value_unit]
        if values and self.learner.delayed_feedback in {"fnw", "fnc"}:
            raise ValueError(
                f"learner.delayed_feedback is {self.learner.delayed_feedback!r}, a loss of labels, and the values of "
                f"{values} are learned; choose 'undo' or 'none'"
            )
        unknown = sorted(set(self.learner.balance.weights) - {task.name for task in self.tasks})
        if unknown:
            raise ValueError(
                f"learner.balance.weights names {unknown}; the tasks are {[task.name for task in self.tasks]}"
            )
        if not self.model.fast and not self.has_heads and len(self.tasks) > 1:
            raise ValueError(
                "learner.tasks is 'all', model.fast is false and model.heads.kind is 'none': nothing would learn the "
                "tasks besides the main one; choose a kind of heads, or turn the fast part on"
            )

    def _check_tokens(self) -> None:
        """Whether what is kept of samples is what the model reads, and SIF's end has its mixer before it."""
        if self.model.deep == "sif" and self.model.history != "sif":
            raise ValueError(
                f"model.deep is 'sif', the end of SIF's mixer, and model.history is {self.model.history!r}; set it to "
                "'sif'"
            )
        coded = [history.name for history in self.histories if history.by == BY_SAMPLE]
        reads = self.has_deep and self.model.history == "sif" and self.model.sif.tokens == "codes"
        others = [history.name for history in self.histories if history.by != BY_SAMPLE]
        if reads and others:
            raise ValueError(
                f"model.history is 'sif', which reads codes of samples, and histories {others} keep none; give them "
                f"by = {BY_SAMPLE!r}, or set model.sif.tokens to 'items'"
            )
        if self.has_deep and self.model.history == "sif" and self.model.sif.tokens == "fields":
            self._check_views()
        if coded and not reads:
            raise ValueError(
                f"histories {coded} are by {BY_SAMPLE!r}, which keeps codes of samples, and nothing makes any; set "
                "model.deep, model.history = 'sif' and model.sif.tokens = 'codes', or give `by` a field of the item"
            )

    def _check_views(self) -> None:
        """Whether all histories are one, each with another field of its items."""
        if len({(history.actions, history.length) for history in self.histories}) > 1:
            names = [history.name for history in self.histories]
            raise ValueError(f"model.sif.tokens is 'fields': histories {names} must have the same actions and length")
        bare = [history.name for history in self.histories if not history.by]
        if bare:
            raise ValueError(
                f"model.sif.tokens is 'fields', and histories {bare} have no field in `by`; give them one, or set it "
                "to 'items'"
            )

    @property
    def learns_all(self) -> bool:
        """Whether the labels of every task are learned."""
        return self.learner.tasks == "all"

    @property
    def main(self) -> int:
        """Index of the main task."""
        return next((n for n, task in enumerate(self.tasks) if task.is_main), 0)

    @property
    def has_heads(self) -> bool:
        """Whether the deep part has a logit of each task."""
        return self.learns_all and self.has_deep and self.model.heads.kind != "none"

    @property
    def layout(self) -> Layout:
        """Of the samples."""
        return _layout(self.fields, self.actions, self.histories)

    @property
    def deep_histories(self) -> tuple[HistorySettings, ...]:
        """Those that the deep part reads."""
        return self.histories if self.has_deep and self.model.history != "none" else ()

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
        """The fast part's settings with the crosses, histories, and what new items start with."""
        names = tuple(history.name for history in self.histories) if self.fast.history_items else ()
        return FastRecipe(
            **msgspec.structs.asdict(self.fast),
            crosses=self.crosses,
            content_start=self.content_start,
            user_start=self.user_start,
            histories=names,
        )

    def field(self, name: str) -> int:
        """Number of a field."""
        return [field.name for field in self.fields].index(name)


@lru_cache(maxsize=64)
def _layout(
    fields: tuple[FieldSettings, ...], actions: tuple[str, ...], histories: tuple[HistorySettings, ...]
) -> Layout:
    return Layout(fields, actions, histories)
