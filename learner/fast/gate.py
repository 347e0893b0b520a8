"""The gate: state signals -> weights of the components, by Adam in micro-batches that no block's end cuts.

o = W_out relu(W_in s + b_in) + b_out; component k weighs 2 sigmoid(o_k), and o_K is added. The last layer starts at 0,
so that it starts as the inner model. Nothing of its loss reaches the inner model.

Legend: S signals, H hidden units, O outputs (K components, then what is added), K components, P parameters.
"""

import numpy as np

from learner.fast.block import Work
from learner.fast.state import ACCUMULATED, SEEN, STEPS, Dense
from learner.tables.compiled import inlined

_MEMORY = 2000
"""Samples that the signals' mean and variance go back over."""
_VAR_FLOOR = 1e-4
_FARTHEST = np.float32(3)
"""Deviations beyond which a signal says no more: someone's very first impression is ten away from the mean, and would
move the gate by that much for all."""
_NORM_FLOOR = 1e-6
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
_EXTRA, _EXTRA_STEPS = 3.0, 100.0
_TINY = np.float32(1e-34)


@inlined
def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), also where exp overflows."""
    return float(1.0 / (1.0 + np.exp(-z)))


@inlined
def log_norm(vector_D: np.ndarray) -> float:
    """Log of a vector's length, of -6.9 or more."""
    square = 0.0
    for d in range(len(vector_D)):
        square += vector_D[d] * vector_D[d]
    return float(0.5 * np.log(_NORM_FLOOR + square))


@inlined
def standardise(inputs_S: np.ndarray, dense: Dense, learn: bool) -> None:
    """Signals by running mean and variance, into which this sample is counted; they are kept only if it is learned."""
    mean_S, var_S, counters_3 = dense.mean_S, dense.var_S, dense.counters_3
    share = np.float32(1.0 / min(counters_3[SEEN] + 1, _MEMORY))
    for s in range(len(inputs_S)):
        distance = inputs_S[s] - mean_S[s]
        mean = mean_S[s] + share * distance
        var = var_S[s] + share * (distance * distance - var_S[s])
        z = (inputs_S[s] - mean) / np.sqrt(var + np.float32(_VAR_FLOOR))
        inputs_S[s] = min(max(z, -_FARTHEST), _FARTHEST)
        if learn:
            mean_S[s], var_S[s] = mean, var
    if learn:
        counters_3[SEEN] += 1


@inlined
def forward(dense: Dense, work: Work, gates_K: np.ndarray) -> float:
    """Weights of the components into `gates_K`; returns what is added."""
    inputs_S, hidden_H, in_SH, out_OH = work.inputs_S, work.hidden_H, dense.in_SH, dense.out_OH
    num_hidden, num_components = len(hidden_H), len(gates_K)
    for h in range(num_hidden):
        hidden_H[h] = dense.in_bias_H[h]
    for s in range(len(inputs_S)):
        for h in range(num_hidden):
            hidden_H[h] += inputs_S[s] * in_SH[s, h]
    for h in range(num_hidden):
        hidden_H[h] = max(hidden_H[h], np.float32(0))
    added = np.float32(0)
    for o in range(num_components + 1):
        output = dense.out_bias_O[o]
        for h in range(num_hidden):
            output += out_OH[o, h] * hidden_H[h]
        if o < num_components:
            gates_K[o] = 2.0 * sigmoid(output)
        else:
            added = output
    return float(added)


@inlined
def backward(dense: Dense, work: Work, components_K: np.ndarray, gates_K: np.ndarray, slope: np.float32) -> None:
    """Add this sample's gradient; `slope` is the loss' derivative by the gated logit, over the batch's size."""
    inputs_S, hidden_H, back_H = work.inputs_S, work.hidden_H, work.hidden_gradient_H
    out_OH, out_gradient_OH, in_gradient_SH = dense.out_OH, dense.out_gradient_OH, dense.in_gradient_SH
    num_hidden, num_components = len(hidden_H), len(gates_K)
    back_H[:] = 0
    for o in range(num_components + 1):
        g = slope
        if o < num_components:
            g *= components_K[o] * gates_K[o] * (np.float32(1) - np.float32(0.5) * gates_K[o])
        dense.out_bias_gradient_O[o] += g
        for h in range(num_hidden):
            out_gradient_OH[o, h] += g * hidden_H[h]
            back_H[h] += g * out_OH[o, h]
    for h in range(num_hidden):
        if hidden_H[h] <= 0:
            back_H[h] = 0
        dense.in_bias_gradient_H[h] += back_H[h]
    for s in range(len(inputs_S)):
        for h in range(num_hidden):
            in_gradient_SH[s, h] += inputs_S[s] * back_H[h]


@inlined
def adam(dense: Dense, rate: float) -> None:
    """One step (Kingma and Ba 2015, algorithm 1) with what has been accumulated, which is then 0."""
    counters_3, gate_P, gradient_P = dense.counters_3, dense.gate_P, dense.gradient_P
    first_P, second_P = dense.first_P, dense.second_P
    counters_3[STEPS] += 1
    counters_3[ACCUMULATED] = 0
    # A short log needs a gate soon, and a long one a steady one.
    rate *= 1.0 + _EXTRA / (1.0 + counters_3[STEPS] / _EXTRA_STEPS)
    step = np.float32(rate / (1.0 - _BETA_1 ** counters_3[STEPS]))
    scale = np.float32(1.0 / np.sqrt(1.0 - _BETA_2 ** counters_3[STEPS]))
    for p in range(len(gate_P)):
        g = gradient_P[p]
        gradient_P[p] = 0
        first = np.float32(_BETA_1) * first_P[p] + np.float32(1.0 - _BETA_1) * g
        second = np.float32(_BETA_2) * second_P[p] + np.float32(1.0 - _BETA_2) * g * g
        # What has no gradient any more would decay to subnormal numbers and stay there, a hundred times as slow.
        first = first if abs(first) > _TINY else np.float32(0)
        second = second if second > _TINY else np.float32(0)
        first_P[p], second_P[p] = first, second
        gate_P[p] -= step * first / (scale * np.sqrt(second) + np.float32(_EPSILON))
