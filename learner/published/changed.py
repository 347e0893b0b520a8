"""Who publishes: a learner, or several that are one; and what has changed since the last time."""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import numpy as np

from learner.config import LearnerSettings, Values
from learner.learned import Learned
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.samples.layout import Layout


class Changed(msgspec.Struct, frozen=True):
    """Rows of all tables that have changed, and keys that were evicted, since the last publish."""

    rows: tuple[np.ndarray, ...]
    evicted: tuple[np.ndarray, ...]
    starts: tuple[dict[str, np.ndarray], ...] = ()
    """What has changed in the content-made starts of each fast part that has some."""


class Together(Protocol):
    """Several learners that are one: to whoever trains, what `Learner` is."""

    recipe: Recipe
    layout: Layout
    settings: LearnerSettings

    @property
    def micro_batch(self) -> int:
        """As of `Learner`, like all that follows."""

    @property
    def num_samples(self) -> int: ...  # noqa: D102

    @property
    def learned_ts(self) -> int: ...  # noqa: D102

    @property
    def num_rows(self) -> int: ...  # noqa: D102

    @property
    def is_finite(self) -> bool: ...  # noqa: D102

    def warm_up(self) -> float: ...  # noqa: D102

    def learn(self, samples: Samples) -> Learned: ...  # noqa: D102

    def norms_of(self, keys_N: np.ndarray) -> np.ndarray: ...  # noqa: D102

    def evict_stale(self) -> int: ...  # noqa: D102

    def take_changes(self, *, whole: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]: ...  # noqa: D102

    def restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None: ...  # noqa: D102

    def take_changed(self) -> Changed:
        """As `learner.published.encoding.take_changed` has it."""

    def encode_snapshot(self, changed: Changed | None, values: Values) -> Iterator[bytes]:
        """As `learner.published.encoding.encode_snapshot` has it."""


AnyLearner = Learner | Together
