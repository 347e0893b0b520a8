"""Masked copies of samples, learned by the inner model (AdaF2M2 3.3)."""

import numpy as np
import pytest

from learner.fast.block import block_of
from learner.fast.config import FastSettings
from learner.fast.learning.masked import uniform
from learner.fast.model import FastPart
from learner.tables.ids import Ids
from tests.learner.fast.streams import NUM_SIGNALS, assert_equal, learn, make_part, make_stream, without_places

BARE = {"gate": False, "levels": False, "crosses": ()}


def dense_but_random(part: FastPart) -> dict[str, np.ndarray]:
    return {name: array for name, array in without_places(part.state()).items() if not name.endswith("random_1")}


def sigmoid(z: float) -> float:
    return 1 / (1 + float(np.exp(-z)))


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("fields", ["item_id", "ids", "all"])
def test_however_a_stream_is_cut_masks_are_the_same(size: int, fields: str) -> None:
    stream = make_stream(1, 1_500)
    whole, cut, bare = (make_part(num_masks=masks, mask_fields=fields) for masks in (2, 2, 0))
    cuts = range(size, len(stream.labels_B), size)
    said = learn(whole, stream)
    assert_equal(said._asdict(), learn(cut, stream, cuts=cuts)._asdict())
    assert_equal(without_places(whole.state()), without_places(cut.state()))
    assert np.abs(said.logit_B - learn(bare, stream).logit_B).max() > 0.01


def test_a_copy_of_which_nothing_is_left_teaches_nothing() -> None:
    stream = make_stream(2, 800)
    empty, bare = make_part(num_masks=3, mask_fields="all", mask_low=1.0, mask_high=1.0), make_part()
    assert_equal(learn(empty, stream)._asdict(), learn(bare, stream)._asdict())
    assert_equal(dense_but_random(empty), dense_but_random(bare))


def test_a_copy_of_no_weight_teaches_nothing() -> None:
    stream = make_stream(3, 800)
    idle, bare = make_part(num_masks=2, mask_weight=0.0), make_part()
    assert_equal(learn(idle, stream)._asdict(), learn(bare, stream)._asdict())
    assert_equal(dense_but_random(idle), dense_but_random(bare))


def test_what_may_not_be_masked_is_learned_and_what_is_masked_is_not() -> None:
    """The user's id alone is masked, always: its row is that of a model without masks, others' rows are not."""
    part, bare = (
        make_part(num_masks=masks, mask_fields="user_id", mask_low=1.0, mask_high=1.0, **BARE) for masks in (1, 0)
    )
    stream = make_stream(4, 1)
    stream = stream._replace(learn_B=np.ones(1, np.bool_), others=stream.others | {"turn_B": np.zeros(1, np.uint8)})
    for one in (part, bare):
        learn(one, stream)
    rows = part.table.find(stream.ids.keys_N)
    assert (rows == bare.table.find(stream.ids.keys_N)).all()
    same = [np.array_equal(part.table.arrays.block_RX[row], bare.table.arrays.block_RX[row]) for row in rows[rows > 0]]
    fields = stream.ids.kinds_N[rows > 0]
    assert same == [field == 0 for field in fields]
    assert len(fields) > 1


def test_one_step_by_hand() -> None:
    """First-order weights, by the equations: the copy's error is by its own logit, alpha times, and on top."""
    alpha = 0.3
    part = make_part(
        num_masks=1, mask_fields="user_id", mask_low=1.0, mask_high=1.0, mask_weight=alpha, init_std=0.0, **BARE
    )
    keys = np.array([11, 12], np.uint64)
    ids = Ids(np.array([0, 2]), keys, np.array([0, 1], np.uint8), np.ones(2, np.float32))
    weights = {0: 0.0, 1: 0.0}
    squares = {0: 0.0, 1: 0.0}
    priors = {0: FastSettings().user.prior, 1: FastSettings().attributes.prior}
    bias, bias_squares = 0.0, 1.0
    for label in (1.0, 0.0, 1.0, 1.0):
        found = part.look_up(ids, np.zeros(1, np.int64), learning=True)
        part.learn(block_of(*found, np.array([label]), np.zeros((1, NUM_SIGNALS))))
        error = label - sigmoid(weights[0] + weights[1] + bias)
        for field in (0, 1):
            squares[field] += error**2
            weights[field] += error / (priors[field] + squares[field])
        bias_squares += error**2
        bias += FastSettings().bias_rate * error / bias_squares**0.5
        copys_error = alpha * (label - sigmoid(weights[1] + bias))
        squares[1] += copys_error**2
        weights[1] += copys_error / (priors[1] + squares[1])
    rows = part.table.find(keys)
    np.testing.assert_allclose(part.table.values["w"][rows, 0], [weights[0], weights[1]], rtol=1e-5)


def test_random_numbers_are_uniform_and_go_on_from_their_state() -> None:
    state = np.array([7], np.uint64)
    drawn = np.array([uniform(state) for _ in range(20_000)])
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(drawn.var() - 1 / 12) < 0.003
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    again = state.copy()
    assert uniform(again) == uniform(state) not in drawn


def test_a_state_of_before_there_were_masks_is_continued() -> None:
    stream = make_stream(5, 400)
    part, other = make_part(), make_part()
    learn(part, stream.part(0, 200))
    former = {name: array for name, array in part.state().items() if not name.endswith("random_1")}
    other.restore(former)
    rest = stream.part(200, 400)
    assert_equal(learn(part, rest)._asdict(), learn(other, rest)._asdict())


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fast.mask_low 0.6 must be <= fast.mask_high 0.5"):
        FastSettings(mask_low=0.6)
