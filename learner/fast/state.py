"""Every dense array of the fast part: what is learned besides the tables' rows.

Legend: D factors, S signals (with norms), H hidden units, O outputs (K components and what is added), P parameters of
the gate.
"""

from typing import NamedTuple

import numpy as np

from learner.fast.config import FastRecipe
from learner.fast.layout import component_names, num_covariances
from learner.tables.memory import zeros

BIAS, SQUARED_ERRORS = 0, 1
ON_TIME, LATE = 0, 1
_FIRST_DELAYS = (47.5, 2.5)
"""What is taken for granted of delays: one in twenty is late."""
SEEN, ACCUMULATED, STEPS = 0, 1, 2
"""In `counters_3`: samples counted into the signals' statistics, samples since the gate's last step, its steps."""


class Dense(NamedTuple):
    """Arrays as compiled code sees them; those of the gate's layers are views of `gate_P` and `gradient_P`."""

    bias_2: np.ndarray
    """float64: the bias, and 1 + sum of e^2."""
    centre_2D: np.ndarray
    """Running means of item vectors and content vectors."""
    population_X: np.ndarray
    """P_0, the covariance that users begin with (`learner/fast/learning/kalman.py`); empty where there is none."""
    delays_2: np.ndarray
    """float64: positives that came in time, and late."""
    levels_2L: np.ndarray
    level_squares_2L: np.ndarray
    """float64: levels of users and of items, and their evidence."""
    mean_S: np.ndarray
    var_S: np.ndarray
    counters_3: np.ndarray
    random_1: np.ndarray
    """uint64: state of the masks' random numbers."""
    gate_P: np.ndarray
    gradient_P: np.ndarray
    """Sum over the samples since the last step, over `gate_batch`."""
    first_P: np.ndarray
    second_P: np.ndarray
    """Adam's moments."""
    in_SH: np.ndarray
    in_bias_H: np.ndarray
    out_OH: np.ndarray
    out_bias_O: np.ndarray
    in_gradient_SH: np.ndarray
    in_bias_gradient_H: np.ndarray
    out_gradient_OH: np.ndarray
    out_bias_gradient_O: np.ndarray


_STORED = (
    "bias_2",
    "centre_2D",
    "population_X",
    "delays_2",
    "levels_2L",
    "level_squares_2L",
    "mean_S",
    "var_S",
    "counters_3",
    "random_1",
    "gate_P",
    "gradient_P",
    "first_P",
    "second_P",
)


_HINT = "the settings of the fast part, its crosses or the state signals have changed"
_HINTS = {
    "population_X": "fast.kalman or fast.factors has changed; a model of before users had covariances goes on with "
    "fast.kalman=false"
}


class FastState:
    """The dense arrays, and how they are kept.

    Args:
        settings: of the fast part.
        num_signals: state signals of a sample, without norms.
        has_deep: whether the logit of a deep part is among the components.
        seed: of the gate's first weights.
    """

    def __init__(self, settings: FastRecipe, num_signals: int, *, has_deep: bool, seed: int) -> None:
        self.num_signals = num_signals
        num_inputs = num_signals + 2 * settings.gate_norms
        num_outputs = len(component_names(settings, has_deep=has_deep)) + 1
        num_levels = 1 + max(len(settings.user_levels), len(settings.item_levels))
        hidden = settings.gate_hidden
        shapes = [(num_inputs, hidden), (hidden,), (num_outputs, hidden), (num_outputs,)]
        gate_P, gradient_P, first_P, second_P = zeros((4, sum(int(np.prod(shape)) for shape in shapes)), np.float32)
        layers, gradients = _views(gate_P, shapes), _views(gradient_P, shapes)
        # Of a linear layer that also sees a 1; the last layer is 0, so that the gate starts as if it were not there.
        bound = 1 / np.sqrt(max(num_inputs, 1))
        first_SH = np.random.default_rng(seed).uniform(-bound, bound, (num_inputs + 1, hidden))
        layers[0][:], layers[1][:] = first_SH[:-1], first_SH[-1]
        self.arrays = Dense(
            zeros((2,), np.float64),
            zeros((2, settings.factors), np.float32),
            zeros((num_covariances(settings),), np.float32),
            zeros((2,), np.float64),
            zeros((2, num_levels), np.float64),
            zeros((2, num_levels), np.float64),
            zeros((num_inputs,), np.float32),
            zeros((num_inputs,), np.float32),
            zeros((3,), np.int64),
            zeros((1,), np.uint64),
            gate_P,
            gradient_P,
            first_P,
            second_P,
            *layers,
            *gradients,
        )
        self.arrays.bias_2[SQUARED_ERRORS] = 1.0
        if settings.kalman:
            diagonal_E = np.cumsum(np.arange(1, settings.factors + 2)) - 1
            self.arrays.population_X[diagonal_E] = settings.user_variance
            self.arrays.population_X[0] = settings.user_weight_variance
        self.arrays.delays_2[:] = _FIRST_DELAYS
        self.arrays.var_S[:] = 1.0
        self.arrays.random_1[0] = seed

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all arrays."""
        return {name: getattr(self.arrays, name).copy() for name in _STORED}

    def served(self) -> dict[str, np.ndarray]:
        """Copies of what a prediction may need."""
        return {name: array for name, array in self.state().items() if name != "population_X"}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: it is of another model.
        """
        for name in _STORED:
            here = getattr(self.arrays, name)
            if name == "random_1" and name not in state:
                continue  # of before there were masks
            if name == "population_X" and name not in state and not len(here):
                continue  # of before there were covariances
            if name not in state or state[name].shape != here.shape:
                raise ValueError(
                    f"the saved model's {name} is {state[name].shape if name in state else 'not there'}, this one's is "
                    f"{here.shape}: {_HINTS.get(name, _HINT)}"
                )
            here[...] = state[name]

    @property
    def is_finite(self) -> bool:
        """Whether every number is one. A value of a table that is none makes the bias none with its next sample."""
        return all(bool(np.isfinite(getattr(self.arrays, name)).all()) for name in _STORED)


def _views(flat_P: np.ndarray, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    views, begin = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        views.append(flat_P[begin : begin + size].reshape(shape))
        begin += size
    return views
