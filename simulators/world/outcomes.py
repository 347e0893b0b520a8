"""What comes of impressions: the truth, and one draw of it.

Legend: N impressions, O outcomes; the first outcome is the click.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from simulators.world.parameters import Lists, Outcome

_LONGEST_S = 86_400.0


class Truth(msgspec.Struct, frozen=True):
    """What is so, whatever comes of it."""

    appeal_N: np.ndarray
    """Taste and quality, as parts of a logit."""
    click_N: np.ndarray
    """Probability of a click where the item is looked at; (N,) float32."""
    examined_N: np.ndarray
    """Probability that it is looked at, by its position."""
    accident: float
    """Probability of a click that is no taste, where the item is looked at."""
    noise: float

    @property
    def click_as_shown(self) -> np.ndarray:
        """Probability of a click as shown: position and noise included."""
        click_N: np.ndarray = self.examined_N * ((1 - self.noise) * self.click_N + self.noise * self.accident)
        return click_N


class Reactions(msgspec.Struct, frozen=True):
    """One draw."""

    happened_NO: np.ndarray
    """bool."""
    delay_ms_NO: np.ndarray
    """From the impression on, int64; 0 of what did not happen."""
    value_NO: np.ndarray
    """Seconds, float32; 0 of what did not happen or has none."""


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)).

    >>> sigmoid(np.array([0.0]))
    array([0.5])
    """
    p: np.ndarray = 1 / (1 + np.exp(-np.clip(logit, -60, 60)))
    return p


def truth_of(outcome: Outcome, lists: Lists, appeal_N: np.ndarray, own_N: np.ndarray, positions_N: np.ndarray) -> Truth:
    """The truth of a click.

    Args:
        outcome: the click.
        lists: position bias and noise.
        appeal_N: taste and quality.
        own_N: what else is in the logit: the user's level, the item's own part.
        positions_N: from 0.
    """
    click_N = sigmoid(outcome.base + outcome.taste * appeal_N + own_N)
    examined_N = (1.0 + positions_N.astype(np.float32)) ** np.float32(-lists.position_bias)
    return Truth(appeal_N, click_N, examined_N, float(sigmoid(np.array(outcome.base))), lists.noise)


def react(outcomes: Sequence[Outcome], truth: Truth, own_NO: np.ndarray, rng: np.random.Generator) -> Reactions:
    """Draw what happens.

    Args:
        outcomes: O of them.
        truth: of the N impressions.
        own_NO: the items' own parts of the logits.
        rng: draws.
    """
    size = own_NO.shape
    happened_NO = np.zeros(size, np.bool_)
    delay_NO, value_NO = np.zeros(size, np.int64), np.zeros(size, np.float32)
    draws_N = rng.random(size[0], np.float32)
    happened_NO[:, 0] = draws_N < truth.click_as_shown
    clicked = np.flatnonzero(happened_NO[:, 0])
    looked = np.flatnonzero(rng.random(size[0], np.float32) < truth.examined_N)
    for o, outcome in enumerate(outcomes):
        if o:
            among = clicked if outcome.of == "clicked" else looked
            p_A = sigmoid(outcome.base + outcome.taste * truth.appeal_N[among] + own_NO[among, o])
            happened_NO[among[rng.random(len(among), np.float32) < p_A], o] = True
        here = np.flatnonzero(happened_NO[:, o])
        z_H = np.exp(outcome.delay_sigma * rng.standard_normal(len(here)))
        if outcome.value:
            seconds_H = outcome.value * np.exp(outcome.value_taste * truth.appeal_N[here]) * z_H
            value_NO[here, o] = np.minimum(seconds_H, _LONGEST_S)
        else:
            seconds_H = outcome.delay_s * z_H
        delay_NO[here, o] = np.minimum(seconds_H, _LONGEST_S) * 1000
    return Reactions(happened_NO, delay_NO, value_NO)
