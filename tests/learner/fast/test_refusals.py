"""What cannot be is refused, in words."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from learner.fast.block import Block, BlockError, block_of, occurring
from learner.fast.config import CrossSettings, FastRecipe, FastSettings
from learner.fast.model import FastPart
from tests.learner.fast.streams import FIELDS, NUM_SIGNALS, assert_equal, make_part, make_stream


def block(**changes: object) -> Block:
    """Two samples of a part's first row."""
    one = occurring(np.array([0, 1, 2]), np.array([1, 1]), np.array([0, 0]), np.ones(2))
    return block_of(one, None, None, None, np.zeros(2), np.zeros((2, NUM_SIGNALS)))._replace(**changes)


def values(offsets: list[int], rows: list[int], kinds: list[int]) -> dict[str, object]:
    return {"values": occurring(np.array(offsets), np.array(rows), np.array(kinds), np.ones(len(rows)))}


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (values([0, 1, 2], [1, 2], [0, 0]), "values: occurrence 1 is row 2 of kind 0; rows end at 2, kinds at 4"),
        (values([0, 1, 2], [-1, 1], [0, 0]), "occurrence 0 is row -1"),
        (values([0, 1, 2], [1, 1], [0, 4]), "occurrence 1 is row 1 of kind 4"),
        (values([0, 1], [1], [0]), "2 offsets for 2 samples must be one more"),
        (values([0, 1, 3], [1, 1], [0, 0]), r"number of rows, kinds and weights, which is \[2\]"),
        (values([0, 3, 2], [1, 1], [0, 0]), "offsets must begin at 0 and not fall"),
        (values([1, 1, 2], [1, 1], [0, 0]), "offsets must begin at 0 and not fall"),
        ({"crosses": values([0, 1, 2], [0, 0], [0, 2])["values"]}, "crosses: occurrence 1 is row 0 of kind 2"),
        ({"signals_BS": np.zeros((2, 3), np.float32)}, r"signals must be 2 x 2, got \(2, 3\)"),
        ({"turn_B": np.zeros(1, np.uint8)}, "turn_B has 1 values, there are 2 samples"),
        ({"belief_rows_B": np.array([0, 1], np.int32)}, "rows of beliefs must be 0 to 0"),
        ({"belief_rows_B": np.array([-1, 0], np.int32)}, "rows of beliefs must be 0 to 0"),
        ({"levels_B2": np.zeros((1, 2), np.int64)}, "levels must be 2 x 2, each 0 to 4"),
        ({"levels_B2": np.array([[0, 5], [0, 0]])}, "levels must be 2 x 2, each 0 to 4"),
        ({"levels_B2": np.array([[0, 0], [-1, 0]])}, "levels must be 2 x 2, each 0 to 4"),
    ],
)
def test_a_block_that_cannot_be_is_refused_and_nothing_changes(attempt: dict[str, object], message: str) -> None:
    part = make_part()
    part.table.put(np.array([7]), np.zeros(1), {})
    before = part.state()
    with pytest.raises(BlockError, match=message):
        part.learn(block(**attempt))
    assert_equal(part.state(), before)
    part.learn(block())


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda: CrossSettings(("a", "a")), ValueError, "a cross is of two fields, got a twice"),
        (
            lambda: FastPart(FastRecipe(crosses=(CrossSettings(("user_id", "x")),)), FIELDS, 1),
            ValueError,
            "not declared: x; there are user_id, age, item_id, genres",
        ),
        (
            lambda: make_part(gate_hidden=8).restore(make_part().state()),
            ValueError,
            r"the saved model's gate_P is .* settings of the fast part",
        ),
        (
            lambda: make_part(user_levels=tuple(range(1, 30))).restore(make_part().state()),
            ValueError,
            r"the saved model's levels_2L is \(2, 5\), this one's is \(2, 30\)",
        ),
        (lambda: FastSettings(user_levels=(1, 1)), ValueError, r"fast.user_levels must ascend .* got \[1, 1\]"),
        (lambda: FastSettings(item_levels=(2, 1)), ValueError, r"fast.item_levels must ascend .* got \[2, 1\]"),
        (lambda: msgspec.convert({"user_levels": [0]}, FastSettings), msgspec.ValidationError, "user_levels"),
        (lambda: make_part(factors=4).restore(make_part().state()), ValueError, "saved table has values"),
        (
            lambda: block_of(
                *make_part().look_up(make_stream(1, 1).ids, np.zeros(1), learning=False),
                np.zeros(1),
                np.zeros((1, 2)),
                weights_B=np.ones(1),
            ),
            TypeError,
            "a block has no weights_B; it may have weight_B",
        ),
        (lambda: msgspec.convert({"gate_lr": 0}, FastSettings), msgspec.ValidationError, "gate_lr"),
        (lambda: msgspec.convert({"gate_size": 1}, FastRecipe), msgspec.ValidationError, "gate_size"),
        (lambda: msgspec.convert({"user": {"prior": 3}}, FastRecipe), msgspec.ValidationError, "rate"),
    ],
)
def test_what_cannot_be_is_said(attempt: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attempt()
