"""Runs of two-tower retrieval, kept in a folder: what is there is not done again."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta

from learner.config import PositiveInt, Seed
from learner.retrieval.config import TwoTowerSettings, Variant, variant_of
from learner.retrieval.hourly import HourFigures, HourlyRetrieval, total
from learner.retrieval.model import TwoTower
from learner.retrieval.offline import RetrievalFigures, figures_of, fit, judge
from simulators.experiments.kept import Kept, KeptError, differences
from simulators.experiments.ratings import Ratings
from simulators.experiments.split import random_split
from simulators.retrieval.data import entities, interactions, split_data

Progress = Callable[[str], None]
R = TypeVar("R", "SplitResult", "StreamResult")
_STREAM_BLOCK = 4096


class RetrievalRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one run is."""

    variant: Variant
    seed: Seed
    """Of the split, and of the model."""
    settings: TwoTowerSettings = TwoTowerSettings()
    """What the parts are like where they are on, and everything else; its own seed is not looked at."""
    num: PositiveInt = 50
    """N."""
    epochs: PositiveInt = 20
    """At most, on a split."""
    patience: PositiveInt = 2
    micro_batch: PositiveInt = 256
    """In a stream."""
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the log's samples: of a split drawn at random, of a stream the first ones."""

    @property
    def model(self) -> TwoTowerSettings:
        """Settings of its model."""
        return msgspec.structs.replace(variant_of(self.settings, self.variant), seed=self.seed)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.settings.loss}-{self.variant}-{self.seed}"


class SplitResult(msgspec.Struct, frozen=True):
    """Of a run on a split."""

    run: RetrievalRun
    figures: RetrievalFigures
    """Of the test part, at the best epoch."""
    history: list[RetrievalFigures]
    """Of the validation part, by epoch."""
    seconds: float


class StreamResult(msgspec.Struct, frozen=True):
    """Of a run over the stream."""

    run: RetrievalRun
    total: HourFigures
    hours: list[HourFigures]
    seconds: float


def on_split(
    ratings: Ratings,
    runs: Sequence[RetrievalRun],
    kept: Kept[SplitResult],
    device: torch.device,
    told: Progress = lambda _: None,
) -> Iterator[SplitResult]:
    """Train and judge on random 6:2:2 splits (AdaF2M2, section 4.1).

    Beside each result is what intervals are made of: `users`, `recall` and `ndcg` of the users with something to be
    found, `scores` of the test samples.

    Args:
        ratings: the log.
        runs: what is to be done.
        kept: where results are.
        device: where.
        told: of progress.

    Raises:
        KeptError: the folder has a result of a run of this name with other settings.
    """
    for run in runs:
        result = _found(kept, run)
        if result is None:
            began = time.monotonic()
            data = split_data(ratings, random_split(len(ratings), run.seed, share=run.share))

            def report(epoch: int, loss: float, valid: RetrievalFigures, run: RetrievalRun = run) -> None:
                told(f"{run.name}: epoch {epoch}, loss {loss:.4f}, recall@{run.num} {valid.recall:.4f}")

            model, history = fit(
                data,
                run.model,
                num_epochs=run.epochs,
                patience=run.patience,
                num=run.num,
                device=device,
                report=report,
            )
            judged = judge(model, data, num=run.num)
            figures = figures_of(judged, data.interactions.take(data.test))
            result = SplitResult(run, figures, history, time.monotonic() - began)
            arrays = {"users": judged.users_G, "recall": judged.recall_G, "ndcg": judged.ndcg_G}
            kept.keep(run.name, result, {**arrays, "scores": judged.scores_N})
        yield result


def on_stream(
    ratings: Ratings,
    runs: Sequence[RetrievalRun],
    kept: Kept[StreamResult],
    device: torch.device,
    told: Progress = lambda _: None,
) -> Iterator[StreamResult]:
    """Judge and learn hour by hour, in the order of time; arguments and errors as for `on_split`."""
    for run in runs:
        result = _found(kept, run)
        if result is None:
            began = time.monotonic()
            samples = interactions(ratings)
            end = round(run.share * len(ratings))
            model = TwoTower(entities(ratings.users), entities(ratings.items), run.model, device)
            stream = HourlyRetrieval(model, num=run.num, micro_batch=run.micro_batch)
            hours: list[HourFigures] = []
            for start in range(0, end, _STREAM_BLOCK):
                hours += stream.update(samples.take(slice(start, min(start + _STREAM_BLOCK, end))))
                if hours:
                    told(f"{run.name}: {start / end:.0%}, recall@{run.num} so far {total(hours).recall:.4f}")
            hours += stream.finish()
            result = StreamResult(run, total(hours), hours, time.monotonic() - began)
            kept.keep(run.name, result, {})
        yield result


def finished(kept: Kept[R], runs: Sequence[RetrievalRun]) -> list[RetrievalRun]:
    """Those of some runs that have come to their end; errors as for `on_split`."""
    return [run for run in runs if _found(kept, run) is not None]


def _found(kept: Kept[R], run: RetrievalRun) -> R | None:
    result = kept.find(run.name)
    if result is not None and result.run != run:
        raise KeptError(
            f"{kept.path(run.name)} is of a run with {differences(result.run, run)}: give another --out, or remove it"
        )
    return result
