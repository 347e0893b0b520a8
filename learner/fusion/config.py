"""Settings of the fusion; msgspec only."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import PositiveInt, Seed, TaskName

Weight = Annotated[float, Meta(gt=0, le=1e6)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class FusionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How scores are fused, what is worth what, and how weights are searched."""

    form: Literal["product", "sum"] = "product"
    """product: prod_t (p_t + offset)^w_t; sum: sum_t w_t p_t (`learner/fusion/score.py`)."""
    offset: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """Added to each probability of a product, so that a task that says nearly 0 does not decide alone."""
    worth: Mapping[TaskName, Annotated[float, Meta(ge=0, le=1e9)]] = {}
    """What a positive label of each task is worth; 1 for one that is not named. What the search is for."""
    prior: Mapping[TaskName, Weight] = {}
    """Weights that the search begins with, and anew each `reset_h`; 1 for one that is not named."""
    method: Literal["cem", "es"] = "cem"
    """cem: the cross-entropy method. es: evolution strategies."""
    population: Annotated[int, Meta(ge=4, le=10_000)] = 32
    """Weights that are tried in a generation."""
    generations: Annotated[int, Meta(gt=0, le=1000)] = 12
    """Per round, a round being a stretch of logged outcomes."""
    spread: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """Standard deviation of the logarithms of the weights that are tried at first."""
    elite: Share = 0.25
    """Share of a generation that `cem` goes on with."""
    least_spread: Annotated[float, Meta(gt=0, le=10)] = 0.05
    """Below which `cem` does not contract, so that it can follow what changes; of `es` the spread that it ends with."""
    rate: Annotated[float, Meta(gt=0, le=10)] = 0.5
    """Step of `es`, in spreads."""
    reset_h: Annotated[float, Meta(gt=0, le=10_000)] = 24.0
    """Event time after which the search begins anew from the prior; what is in force stays till something is better."""
    held_out: Share = 0.5
    """Share of the users on whose outcomes weights are tried once more before they come into force."""
    sureness: Annotated[float, Meta(ge=0, le=10)] = 1.645
    """Standard errors by which new weights must be better than those in force, paired by list."""
    max_step: Annotated[float, Meta(gt=0, le=100)] = 2.0
    """By how much the logarithm of a weight may change in a round at most."""
    anomaly: Annotated[float, Meta(gt=0, le=100)] = 4.0
    """Standard deviations, over the rounds before, beyond which the outcomes of a round are not believed."""
    least_rounds: PositiveInt = 5
    """Rounds before anything can be called an anomaly."""
    least_lists: PositiveInt = 100
    """Lists with something to order, in each part of a round, without which it changes nothing."""
    depth: PositiveInt = 10
    """Places of a list that count."""
    seed: Seed = 7

    def check(self, tasks: Sequence[str]) -> None:
        """Every task that is named is one.

        Raises:
            ValueError: settings name a task that there is not.
        """
        for name in ("worth", "prior"):
            unknown = sorted(set(getattr(self, name)) - set(tasks))
            if unknown:
                raise ValueError(f"fusion.{name} names {unknown}; the tasks are {list(tasks)}")
