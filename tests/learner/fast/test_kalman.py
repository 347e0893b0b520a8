"""Users learned by a Kalman filter: what it comes to, whom it is kept for, and what a saved one needs."""

import numpy as np
import pytest

from learner.fast.block import block_of, occurring
from learner.fast.config import FastRecipe, GroupSettings
from learner.fast.model import FastPart
from tests.learner.fast.streams import FIELDS, assert_equal, learn, make_part, make_stream

DIM, NUM_ITEMS = 4, 50
STILL = GroupSettings(prior=1e9, rate=1e-9)
"""Nothing is learned but users."""


def still_part(**changes: object) -> FastPart:
    """Items have vectors that stay, and users' covariances are one for all."""
    given = {"factors": DIM, "item": STILL, "attributes": STILL, "content": STILL, "centre": 0.0, "bias_rate": 1e-9}
    given |= {"gate": False, "levels": False, "population_rate": 0.0, "max_rows": 200, "user_variance": 0.5}
    return FastPart(FastRecipe(**{**given, **changes}), FIELDS, 0)  # type: ignore[arg-type]


def of_users(part: FastPart, users_B: np.ndarray, items_B: np.ndarray, labels_B: np.ndarray) -> np.ndarray:
    """Learn samples of a user and an item, which have rows; returns the users' rows, (B,)."""
    num = len(users_B)
    keys_N, kinds_N = np.stack([users_B, items_B], axis=1).ravel(), np.tile([0, 2], num)
    rows_N = part.table.find(keys_N)
    found = occurring(np.arange(num + 1) * 2, rows_N, kinds_N, np.ones(2 * num))
    learn_B = np.ones(num, np.bool_)
    covariances_B = part.covariances_of(users_B, np.arange(num), learn_B)
    part.learn(block_of(found, None, None, None, labels_B, np.zeros((num, 0)), covariance_rows_B=covariances_B))
    return rows_N[::2]


def with_items(part: FastPart, rng: np.random.Generator, num_users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of users and of items, and the items' vectors."""
    users_U = np.arange(1, num_users + 1, dtype=np.uint64)
    items_I = np.arange(1000, 1000 + NUM_ITEMS, dtype=np.uint64)
    vectors_ID = rng.normal(0, 1, (NUM_ITEMS, DIM)).astype(np.float32)
    part.table.put(users_U, np.zeros(num_users), {})
    part.table.put(items_I, np.full(NUM_ITEMS, 2), {"v": vectors_ID})
    return users_U, items_I, vectors_ID


def most_likely(z_NE: np.ndarray, labels_N: np.ndarray, variances_E: np.ndarray) -> np.ndarray:
    """Coefficients of a logistic regression with a Gaussian prior, by Newton's method."""
    theta_E = np.zeros(len(variances_E))
    for _ in range(50):
        p_N = 1 / (1 + np.exp(-z_NE @ theta_E))
        slope_E = z_NE.T @ (labels_N - p_N) - theta_E / variances_E
        theta_E += np.linalg.solve((z_NE.T * (p_N * (1 - p_N))) @ z_NE + np.diag(1 / variances_E), slope_E)
    return theta_E


def test_one_pass_comes_close_to_the_most_likely_coefficients_and_adagrad_does_not() -> None:
    apart = {}
    for kalman in (True, False):
        rng = np.random.default_rng(3)
        part = still_part(kalman=kalman, user_weight_variance=0.5)
        users_U, items_I, vectors_ID = with_items(part, rng, 40)
        true_UE = rng.normal(0, 0.7, (40, 1 + DIM))
        users_B, chosen_B = np.repeat(np.arange(40), 60), rng.integers(NUM_ITEMS, size=2400)
        z_BE = np.concatenate([np.ones((2400, 1)), vectors_ID[chosen_B]], axis=1)
        labels_B = (rng.random(2400) < 1 / (1 + np.exp(-(z_BE * true_UE[users_B]).sum(1)))).astype(np.float32)
        of_users(part, users_U[users_B], items_I[chosen_B], labels_B)
        rows_U = part.table.find(users_U)
        found_UE = np.concatenate([part.table.values["w"][rows_U], part.table.values["v"][rows_U]], axis=1)
        best_UE = [most_likely(z_BE[users_B == u], labels_B[users_B == u], np.full(1 + DIM, 0.5)) for u in range(40)]
        apart[kalman] = float(np.abs(found_UE - best_UE).mean())
    assert apart[True] < 0.1
    assert apart[True] < 0.5 * apart[False]


@pytest.mark.parametrize("forget", [0.0, 0.01])
def test_a_covariance_stays_one_however_much_a_user_teaches(forget: float) -> None:
    rng = np.random.default_rng(4)
    part = still_part(forget=forget, population_rate=1e-3)
    users_U, items_I, _ = with_items(part, rng, 1)
    items_B = items_I[rng.integers(NUM_ITEMS, size=30_000)]
    of_users(part, np.repeat(users_U, 30_000), items_B, (rng.random(30_000) < 0.5).astype(np.float32))
    matrix = np.zeros((1 + DIM, 1 + DIM))
    matrix[np.tril_indices(1 + DIM)] = part.covariances.values["P"][1]
    eigenvalues = np.linalg.eigvalsh(matrix + np.tril(matrix, -1).T)
    assert eigenvalues.min() > 0
    # What is forgotten keeps a user learning.
    assert (eigenvalues.max() > 5e-3) == (forget > 0)


def test_new_users_begin_as_those_before_them_have_turned_out() -> None:
    rng = np.random.default_rng(5)
    part = still_part(population_rate=0.01)
    users_U, items_I, _ = with_items(part, rng, 60)
    first = part.dense.arrays.population_X.copy()
    likes_all_U = rng.random(60) < 0.5
    users_B = np.repeat(np.arange(60), 40)
    of_users(part, users_U[users_B], items_I[rng.integers(NUM_ITEMS, size=2400)], likes_all_U[users_B])
    population_X = part.dense.arrays.population_X
    diagonal_E = np.cumsum(np.arange(1, DIM + 2)) - 1
    # They differ in their level more than was thought, and in what they like less.
    assert population_X[0] > 3 * first[0]
    assert (population_X[diagonal_E[1:]] < first[diagonal_E[1:]]).all()


def test_users_beyond_those_that_have_room_are_learned_as_everything_else() -> None:
    stream = make_stream(1, 2_000)
    part, plain, roomy = make_part(max_covariances=20), make_part(kalman=False), make_part()
    for one in (part, plain, roomy):
        learn(one, stream)
    assert (part.covariances.num_rows, plain.covariances.num_rows) == (20, 0)
    assert 100 < roomy.covariances.num_rows <= 150
    rows_R = part.table.find(part.covariances.arrays.key_R[1:21])
    others_R = np.setdiff1d(part.table.find(roomy.covariances.arrays.key_R[1 : roomy.covariances.end]), rows_R)
    assert not part.table.values["H"][rows_R].any()
    assert part.table.values["H"][others_R].any(axis=1).mean() > 0.9


def test_a_model_of_before_goes_on_without_and_says_so() -> None:
    stream = make_stream(2, 800)
    without, other, with_them = make_part(kalman=False), make_part(kalman=False), make_part()
    for part in (without, with_them):
        learn(part, stream)
    before = {name: array for name, array in without.state().items() if name != "dense.population_X"}
    with pytest.raises(ValueError, match=r"of before users had covariances goes on with fast\.kalman=false"):
        make_part().restore(before)
    with pytest.raises(ValueError, match=r"fast\.kalman or fast\.factors has changed"):
        make_part(kalman=False).restore(with_them.state())
    other.restore(before)
    assert_equal(other.state(), without.state())
