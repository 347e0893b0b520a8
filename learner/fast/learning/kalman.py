"""The user's weight and factors, learned with how certain each is, and how they hang together.

Beside an item, what is asked of a user is a logistic regression on z = (1, I_i + I_c), whose coefficients are the
user's first-order weight and factors, theta. A decoupled extended Kalman filter (Gomez-Uribe and Karrer, JMLR 22,
2021) keeps a mean and a covariance P of each user's, and takes everything else as it stands. A label with error e and
evidence h = p (1 - p):

    g = P z,    s = 1 / (1 + h z'g),    theta += s e g,    P -= s h g g'

What comes later of a label that was believed in part (`belief.py`) moves theta by e g and leaves P. Users begin with a
covariance of the population, which is learned from all of them: with each sample, at rate lambda,

    P_0 += lambda (theta theta' + P - P_0)

and where evidence is forgotten, P goes back to P_0 by that share. Adagrad, which other values learn by, knows of each
factor by itself how much it has been taught, and nothing of which factors go together.

Legend: E = 1 + D, the weight and then the factors; R rows, X = E (E + 1) / 2 numbers of a symmetric matrix, row by row
up to the diagonal.
"""

import numpy as np

from learner.fast.block import TableArrays, Work
from learner.fast.layout import FACTORS, WEIGHT, Constants
from learner.fast.state import Dense
from learner.tables.compiled import compiled

_ITEMS = 1


@compiled
def learn_user(
    row: int,
    covariance_row: int,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
    work: Work,
    error: np.float32,
    evidence: np.float32,
) -> None:
    """One step for the user's row; without evidence what an earlier one left open.

    Args:
        row: of the user.
        covariance_row: of the user's covariance, which is the population's where it is zeros.
        error: e.
        evidence: h.
    """
    covariance_X, values_X = tables.covariances_RX[covariance_row], tables.values_RX[row]
    if covariance_X[0] <= 0:
        for x in range(len(covariance_X)):
            covariance_X[x] = dense.population_X[x]
    z_E, gain_E = work.regressors_E, work.gain_E
    num_factors = len(z_E) - 1
    z_E[0] = 1
    for d in range(num_factors):
        z_E[1 + d] = work.totals_2D[_ITEMS, d]
    at, variance = 0, np.float32(0)
    for i in range(len(z_E)):
        of_row, z_i = np.float32(0), z_E[i]
        for j in range(i):
            of_row += covariance_X[at + j] * z_E[j]
            gain_E[j] += covariance_X[at + j] * z_i
        gain_E[i] = of_row + covariance_X[at + i] * z_i
        at += i + 1
    for i in range(len(z_E)):
        variance += z_E[i] * gain_E[i]
    share = np.float32(1) / (np.float32(1) + evidence * max(variance, np.float32(0)))
    step, less = share * error, share * evidence
    values_X[WEIGHT] += step * gain_E[0]
    for d in range(num_factors):
        values_X[FACTORS + d] += step * gain_E[1 + d]
    if less == 0:
        return
    at, forgotten, population_X = 0, np.float32(1) - constants.keep, dense.population_X
    for i in range(len(z_E)):
        of_row = less * gain_E[i]
        for j in range(i + 1):
            covariance_X[at + j] -= of_row * gain_E[j]
        if forgotten > 0:
            for j in range(i + 1):
                covariance_X[at + j] += forgotten * (population_X[at + j] - covariance_X[at + j])
        # Rounding must not make a variance of one that is nearly none.
        covariance_X[at + i] = max(covariance_X[at + i], constants.least_variance)
        at += i + 1
    _learn_population(values_X, covariance_X, population_X, z_E, constants.population_rate)


@compiled
def _learn_population(
    values_X: np.ndarray, covariance_X: np.ndarray, population_X: np.ndarray, theta_E: np.ndarray, rate: np.float32
) -> None:
    """Have new users begin a little more like this one; `theta_E` is room."""
    theta_E[0] = values_X[WEIGHT]
    for d in range(len(theta_E) - 1):
        theta_E[1 + d] = values_X[FACTORS + d]
    at = 0
    for i in range(len(theta_E)):
        for j in range(i + 1):
            population_X[at] += rate * (theta_E[i] * theta_E[j] + covariance_X[at] - population_X[at])
            at += 1
