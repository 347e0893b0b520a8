"""One request scored by the weights that are served, and by others along with them where there are such."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from learner.samples.columns import Samples
from learner.snapshot import Part, Scores
from state_store.weights import Manifest
from stream.rollout.watch import Watch
from stream.serving.lineup.lineup import Choice
from stream.serving.turns.local import InForce


class Apart(msgspec.Struct, frozen=True):
    """What a score is made of."""

    parts: list[Part] = []
    """Of the logit."""
    stands_for: tuple[list[str], list[float]] | None = None
    """Items that the item is served by, if it has learned nothing itself, and how like it they are."""
    user_made: bool = False
    """Whether others stand for the user, who has learned nothing so far."""


class Said(msgspec.Struct, frozen=True):
    """Scores of B candidates."""

    manifest: Manifest
    """Of the weights that are served."""
    arm: str
    canary: bool
    scores: Scores
    apart: Apart
    """The first candidate's score, if that is asked for."""
    beside_B: np.ndarray | None = None
    """Probabilities by the weights that score along, if there are such; and their version."""
    beside_version: int = 0


@contextmanager
def reading_both(choice: Choice) -> Iterator[tuple[InForce | None, InForce | None]]:
    """The weights that are served, and those that score along; they stay as they are for as long as this lasts."""
    with choice.served.reading() as served:
        if choice.beside is None:
            yield served, None
            return
        with choice.beside.reading() as beside:
            yield served, beside


def say(choice: Choice, both: tuple[InForce, InForce | None], samples: Samples, watch: Watch, *, explain: bool) -> Said:
    """Score candidates by both.

    A canary user whose scores are no numbers gets the stable weights' instead.

    Args:
        choice: what the user is served.
        both: from `reading_both`.
        samples: the candidates.
        watch: is told what is seen of the newest weights.
        explain: whether the first one's score is taken apart.
    """
    served, beside = both
    began = time.perf_counter()
    scores = served.model.predict(samples)
    took = time.perf_counter() - began
    manifest, canary = _manifest(served), choice.canary
    if beside is None:
        return Said(manifest, choice.arm, False, scores, _apart(served, samples, explain=explain))
    began = time.perf_counter()
    others = beside.model.predict(samples)
    other = _manifest(beside)
    if canary:
        if not np.isfinite(scores.predictions_B).all():
            watch.no_number(manifest.version)
            return Said(other, choice.arm, False, others, _apart(beside, samples, explain=explain))
        watch.took(manifest.version, took, other.version, time.perf_counter() - began)
    apart = _apart(served, samples, explain=explain)
    return Said(manifest, choice.arm, canary, scores, apart, others.predictions_B, other.version)


def _apart(of: InForce, samples: Samples, *, explain: bool) -> Apart:
    if not explain:
        return Apart()
    model = of.model
    return Apart(model.explain(samples), model.stands_for(samples), model.stands_for(samples, "user") is not None)


def _manifest(of: InForce) -> Manifest:
    assert of.manifest is not None
    return of.manifest
