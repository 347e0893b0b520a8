"""Every variant and rival over one recording, at every seed; what is there is not done again."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from learner.learned import Learned
from learner.parts import weight_names
from learner.samples.columns import Samples
from simulators.experiments.kept import Kept, find_made, plain_name
from simulators.experiments.stream import rivals, vowpal
from simulators.experiments.stream.figures import Said, Scores, Truth
from simulators.experiments.stream.recorded import Recording
from simulators.experiments.stream.variant import Variant, run
from simulators.experiments.stream.weights import COUNTS, SUMS, WeightSums
from stream.command.doctor import versions

RIVALS = (rivals.ITEM_MEAN, rivals.RIVER, *vowpal.VW)
Told = Callable[[str, int], None]
"""Is told what is being done, and how many samples more are done with."""


class StreamResult(msgspec.Struct, frozen=True):
    """One variant at one seed, or a rival, which has none."""

    variant: str
    seed: int | None
    made: str
    """Recording and settings, as JSON."""
    auc: float | None
    weight_names: list[str]
    samples: int
    seconds: float
    source: str
    date: str
    versions: dict[str, str]


class StreamExperiment:
    """Models on the samples of one log, of one task.

    Args:
        recording: the samples.
        truth: their labels.
        kept: where results are kept.
    """

    def __init__(self, recording: Recording, truth: Truth, kept: Kept[StreamResult]) -> None:
        self.recording, self.truth, self.kept = recording, truth, kept
        self.log, self.task = recording.header.log, recording.settings.main_task.name

    def run(self, variants: Sequence[Variant], seeds: Sequence[int], told: Told) -> Iterator[StreamResult]:
        """Results of variants that are not there yet, variant by variant, as they come.

        Args:
            variants: what learns.
            seeds: of the learner; the samples and their order are the same at all of them.
            told: progress.
        """
        for variant in variants:
            for seed in seeds:
                if self.find(variant, seed) is None:
                    yield self._of_variant(variant, seed, told)

    def find(self, variant: Variant, seed: int) -> StreamResult | None:
        """A variant's result; None if it is not there.

        Raises:
            KeptError: it is, and was made otherwise.
        """
        return find_made(self.kept, self._name(variant.name, seed), self._made(variant, seed))

    def find_rival(self, name: str) -> StreamResult | None:
        """A rival's result, likewise."""
        return find_made(self.kept, self._name(name, None), self._made(None, None))

    def scores(self, result: StreamResult) -> Scores:
        """What it said of the impressions."""
        name = self._name(result.variant, result.seed)
        return Scores(*(self.kept.array(name, of) for of in Scores.__struct_fields__))

    def weights(self, result: StreamResult) -> dict[str, np.ndarray]:
        """Sums of its weights, as `stream.weights` has them."""
        name = self._name(result.variant, result.seed)
        return {of: self.kept.array(name, of) for of in (SUMS, COUNTS)}

    def _of_variant(self, variant: Variant, seed: int, told: Told) -> StreamResult:
        recipe = variant.recipe(self.recording.settings.recipe, seed)
        names = weight_names(recipe)
        sums = WeightSums(names, self.recording.header.num_samples)
        said_of = f"{variant.name}, seed {seed}"

        def seen(samples: Samples, learned: Learned) -> None:
            sums(samples, learned)
            told(said_of, len(samples))

        told(said_of, 0)
        began = time.perf_counter()
        said, _ = run(variant, self.recording, seed, seen)
        arrays = sums.arrays() if names else {}
        return self._keep(variant.name, seed, self._made(variant, seed), said, began, names, arrays)

    def run_rivals(self, names: Sequence[str], told: Told) -> Iterator[StreamResult | str]:
        """Results of rivals that are not there yet; a sentence instead of those that cannot be had.

        Args:
            names: of them.
            told: progress.
        """
        wanted = [name for name in names if self.find_rival(name) is None]
        made = self._made(None, None)
        for name in wanted:
            if name in (rivals.RIVER, rivals.ITEM_MEAN):
                told(name, 0)
                began = time.perf_counter()
                said = self._plain_rival(name, told)
                yield self._keep(name, None, made, said, began)
        pairs = {name: vowpal.VW[name] for name in wanted if name in vowpal.VW}
        if not pairs:
            return
        with tempfile.TemporaryDirectory() as scratch:
            try:
                told("installing Vowpal Wabbit in an environment of its own", 0)
                python = vowpal.install_vw(Path(scratch) / "environment")
                vowpal.write_vw(self.recording, Path(scratch) / "samples.vw")
                for name, crossed in pairs.items():
                    told(name, 0)
                    began, num_samples = time.perf_counter(), self.recording.header.num_samples
                    said, _ = vowpal.run_vw(python, Path(scratch) / "samples.vw", crossed, num_samples)
                    yield self._keep(name, None, made, said, began)
            except vowpal.NotToBeHadError as exc:
                yield str(exc)

    def _plain_rival(self, name: str, told: Told) -> Said:
        if name == rivals.ITEM_MEAN:
            return rivals.run_item_mean(self.recording)
        said, _ = rivals.run_river(self.recording, lambda num_samples: told(name, num_samples))
        return said

    def _keep(
        self,
        name: str,
        seed: int | None,
        made: str,
        said: Said,
        began: float,
        names: Sequence[str] = (),
        weights: dict[str, np.ndarray] | None = None,
    ) -> StreamResult:
        scores = self.truth.scores(said)
        auc = float(self.truth.auc(scores.predictions_N)[0])
        result = StreamResult(
            name,
            seed,
            made,
            auc if np.isfinite(auc) else None,
            list(names),
            len(said.predictions_T),
            round(time.perf_counter() - began, 1),
            self.recording.header.source,
            datetime.now(UTC).date().isoformat(),
            versions(),
        )
        self.kept.keep(self._name(name, seed), result, msgspec.structs.asdict(scores) | (weights or {}))
        return result

    def _made(self, variant: Variant | None, seed: int | None) -> str:
        settings = None
        if variant is not None and seed is not None:
            recipe = variant.recipe(self.recording.settings.recipe, seed)
            settings = {name: getattr(recipe, name) for name in ("model", "fast", "crosses", "learner")}
        return msgspec.json.encode({"recording": self.recording.header, "settings": settings}).decode()

    def _name(self, variant: str, seed: int | None) -> str:
        return f"run-{self.log}-{self.task}-{plain_name(variant)}" + ("" if seed is None else f"-seed{seed}")
