"""Every arm over a recording with items withheld, at every seed; what is there is not done again."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np

from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.new_items.arms import arm
from simulators.experiments.new_items.withheld import Withheld
from simulators.experiments.stream.figures import Said, Scores, Truth
from simulators.experiments.stream.recorded import Columns, Recording, columns_of
from simulators.experiments.stream.variant import run
from stream.command.doctor import versions

Told = Callable[[str], None]


class NewItemsResult(msgspec.Struct, frozen=True):
    """One arm at one seed."""

    arm: str
    model: str
    seed: int
    made: str
    """Recording, share and settings, as JSON."""
    samples: int
    seconds: float
    source: str
    date: str
    versions: dict[str, str]


class Chosen(NamedTuple):
    """Which impressions are of new items, at one seed."""

    numbers_N: np.ndarray
    """Earlier impressions of the item; -1 where it is not new."""
    is_drawn_N: np.ndarray
    """Whether it was withheld; else it came late by itself."""


class NewItems:
    """The experiment on one log.

    Args:
        recording: the samples.
        kept: where results are kept.
        share: of the items that are withheld, others at each seed.
        num_replicates: of the bootstrap.
        num_samples: of the recording, from its beginning; 0: all.
    """

    def __init__(
        self,
        recording: Recording,
        kept: Kept[NewItemsResult],
        share: float,
        num_replicates: int,
        num_samples: int = 0,
    ) -> None:
        self.recording, self.kept, self._share = recording, kept, share
        self._num_samples = num_samples or recording.header.num_samples
        columns = msgspec.structs.asdict(columns_of(recording))
        self._columns = Columns(**{name: column[: self._num_samples] for name, column in columns.items()})
        self.truth = Truth(self._columns, num_replicates)
        self._withheld: dict[int, Withheld] = {}

    def withheld(self, seed: int) -> Withheld:
        """What is left of the recording at a seed."""
        if seed not in self._withheld:
            self._withheld[seed] = Withheld(self.recording, self._share, seed, self._num_samples)
        return self._withheld[seed]

    def chosen(self, seed: int) -> Chosen:
        """Impressions of new items at a seed."""
        stream = self.withheld(seed)
        return Chosen(self.truth.of_impressions(stream.numbers_T), self.truth.of_impressions(stream.is_drawn_T))

    def run(
        self, arms: Sequence[str], models: Sequence[str], seeds: Sequence[int], told: Told
    ) -> Iterator[NewItemsResult]:
        """Results, those that are there included.

        Args:
            arms: names of them.
            models: names of the models.
            seeds: of learner and draw.
            told: is told what is being done.
        """
        for seed in seeds:
            for model in models:
                for name in arms:
                    found = self.find(name, model, seed)
                    if found is None:
                        told(f"{name}, {model}, seed {seed}")
                        found = self._one(name, model, seed)
                    yield found

    def find(self, name: str, model: str, seed: int) -> NewItemsResult | None:
        """A result; None if it is not there.

        Raises:
            KeptError: it is, and was made otherwise.
        """
        found = self.kept.find(self._name(name, model, seed))
        if found is not None and found.made != self._made(name, model, seed):
            path = self.kept.path(self._name(name, model, seed))
            raise KeptError(f"{path} was made of other samples or settings: remove it, or give another --out")
        return found

    def scores(self, result: NewItemsResult) -> Scores:
        """What it said of the impressions; NaN of those that were withheld."""
        name = self._name(result.arm, result.model, result.seed)
        return Scores(*(self.kept.array(name, of) for of in Scores.__struct_fields__))

    def _one(self, name: str, model: str, seed: int) -> NewItemsResult:
        began, stream = time.perf_counter(), self.withheld(seed)
        said, _ = run(arm(name, model), stream, seed)
        predictions_T, ranks_T = np.full((2, self._num_samples), np.nan, np.float32)
        predictions_T[stream.kept_T], ranks_T[stream.kept_T] = said.predictions_T, said.ranks_T
        result = NewItemsResult(
            name,
            model,
            seed,
            self._made(name, model, seed),
            len(said.predictions_T),
            round(time.perf_counter() - began, 1),
            self.recording.header.source,
            datetime.now(UTC).date().isoformat(),
            versions(),
        )
        scores = self.truth.scores(Said(predictions_T, ranks_T))
        self.kept.keep(self._name(name, model, seed), result, msgspec.structs.asdict(scores))
        return result

    def _made(self, name: str, model: str, seed: int) -> str:
        recipe = arm(name, model).recipe(self.recording.settings.recipe, seed)
        settings = {part: getattr(recipe, part) for part in ("model", "fast", "crosses", "learner", "content_start")}
        of = {"recording": self.recording.header, "share": self._share, "samples": self._num_samples}
        return msgspec.json.encode({**of, "settings": settings}).decode()

    def _name(self, name: str, model: str, seed: int) -> str:
        return f"new-items-{self.recording.header.log}-{model}-{name.replace(' ', '-')}-seed{seed}"
