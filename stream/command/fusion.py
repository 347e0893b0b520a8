"""`coldstream fusion`: weights of one ranking score for all tasks, searched on a run's prediction log."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import polars as pl

from learner.fusion.reward import Outcomes
from learner.fusion.search import FusionSearch, Round
from learner.samples.kind import SampleKind
from state_store.errors import OperatorError
from state_store.tasks import Task
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.settings import Settings
from stream.task_columns import learned_in

_DAY_MS = 86_400_000


class NoTaskScoresError(OperatorError):
    """A prediction log lacks what is to be fused."""


def outcomes_of(predictions: pl.DataFrame, tasks: Sequence[Task]) -> Outcomes:
    """Impressions of which every label is known, in the order of event time, with each task's prediction.

    The prediction is the one that was made when the impression passed, if that was logged: what a user would get. A
    list is a user's impressions of one day.

    Args:
        predictions: the prediction log.
        tasks: all of them.

    Raises:
        NoTaskScoresError: the log has no score of some task.
    """
    lacking = [task.name for task in tasks if not learned_in(predictions, task.name)]
    if lacking:
        raise NoTaskScoresError(
            f"the prediction log has no probability of {lacking}: it is of a run that learned the main task alone; set "
            "learner.tasks=all, and learn a run anew"
        )
    said = [f"probability:{task.name}" for task in tasks]
    by_label = [
        matured(predictions, None if task.is_main else n).select("imp_id", pl.col("label").alias(f"label:{task.name}"))
        for n, task in enumerate(tasks)
    ]
    is_base = pl.col("kind").is_in([int(SampleKind.NEGATIVE), int(SampleKind.POSITIVE)])
    base = predictions.filter(is_base).select("imp_id", "user_id", "ts", *said)
    shown = predictions.filter(pl.col("kind") == int(SampleKind.SHOWN)).select("imp_id", *said)
    rows = reduce(lambda left, right: left.join(right, on="imp_id"), by_label, base)
    rows = rows.join(shown, on="imp_id", how="left", suffix=":shown").sort("ts", maintain_order=True)
    served = rows.select(pl.coalesce(f"{name}:shown", name).alias(name) for name in said)
    users_N = rows["user_id"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    days_N = rows["ts"].to_numpy() // _DAY_MS
    first = int(days_N.min()) if len(days_N) else 0
    num_days = int(days_N.max()) - first + 1 if len(days_N) else 1
    return Outcomes(
        served.to_numpy().astype(np.float64),
        rows.select(f"label:{task.name}" for task in tasks).to_numpy().astype(np.float64),
        users_N,
        users_N * num_days + (days_N - first),
        rows["ts"].to_numpy(),
    )


def rounds_of(outcomes: Outcomes, hours: float) -> Iterator[Outcomes]:
    """Stretches of so many hours of event time."""
    numbers_N = (outcomes.ts_N - outcomes.ts_N[:1].sum()) // max(round(hours * 3_600_000), 1)
    for number in np.unique(numbers_N):
        yield outcomes.take(numbers_N == number)


def search_weights(folder: Path, settings: Settings, hours: float) -> list[Round]:
    """Search on a run's log, round by round.

    Args:
        folder: run folder.
        settings: of the run; its section `fusion` says how.
        hours: event time of a round.

    Raises:
        NoTaskScoresError: the run has not learned all tasks, or there is none.
    """
    predictions = read_predictions(folder / "predictions")
    if predictions.is_empty():
        raise NoTaskScoresError(f"{folder}: there are no logged predictions; give the folder of a run, as in runs/demo")
    outcomes = outcomes_of(predictions, settings.labels)
    search = FusionSearch(settings.fusion, [task.name for task in settings.labels])
    return [search.round(stretch) for stretch in rounds_of(outcomes, hours)]


def described(rounds: Sequence[Round]) -> list[str]:
    """A line for each round, for a terminal."""
    return [
        f"round {n}: reward {one.reward:.4f} on {one.num_lists:,} lists; {_weights(one.weights)}; {one.said}"
        for n, one in enumerate(rounds, 1)
    ]


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {weight:.3f}" for task, weight in weights.items())
