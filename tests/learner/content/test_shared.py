"""The pool where processes share a model: one makes it, the others serve by it."""

import os
from typing import Any

import numpy as np
import pytest

from learner.learner import Learner
from learner.named import ArraysError
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from learner.tables.memory import sharing
from learner.tables.shared import Shelf
from tests.learner.content.test_starts import learn, make_recipe, stream
from tests.learner.fast.records import changed, to_samples
from tests.learner.test_served import in_a_fork

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def unknown(learner: Learner, at: int) -> Samples:
    """Impressions of items without a row, each with another content, and of one that has a row."""
    items = [("i1", 1), *((f"new{n}", n) for n in range(9))]
    shown = [changed(stream(1)[0], kind=SampleKind.SHOWN, item_id=item, ts=at) for item, _ in items]
    records = [
        changed(record, features=["1", [f"g{n % 7}", "g"], float(n)])
        for record, (_, n) in zip(shown, items, strict=True)
    ]
    return to_samples(records, learner.fields)


@pytest.mark.parametrize(
    "changes",
    [{"method": "nearest"}, {"method": "nearest", "exact_items": 5}, {"method": "category"}, {"all_tasks": True}],
)
def test_what_one_process_makes_others_serve_by(changes: dict[str, Any]) -> None:
    """Each version is loaded by a process that was not there before, by what the last one left."""
    learner, records = Learner(make_recipe(**changes)), stream(700)
    with sharing():
        shared = ServingModel(learner.recipe)
    own = ServingModel(learner.recipe)
    for n, begin in enumerate(range(0, 700, 175)):
        learn(learner, records[begin : begin + 175])
        update = take_changed(learner)
        blob = encode_snapshot(learner, update if n else None)
        in_a_fork(lambda blob=blob: (shared.attach(), shared.load(blob)))  # type: ignore[misc]
        own.load(blob)
        shared.attach()
        asked = unknown(learner, begin)
        expected, theirs, ours = learner.learn(asked), shared.predict(asked), own.predict(asked)
        assert len(set(expected.predictions_B.tolist())) > 4
        for said in (theirs, ours):
            np.testing.assert_array_equal(said.predictions_B, expected.predictions_B)
            np.testing.assert_array_equal(said.ranks_B, expected.ranks_B)
            if expected.by_task is not None:
                np.testing.assert_array_equal(said.predictions_BT, expected.by_task.predictions_BT)
        for at in range(10):
            one = asked.slice(at, at + 1)
            assert shared.stands_for(one) == own.stands_for(one)
        assert (shared.stands_for(asked.slice(0, 1)), shared.stands_for(asked.slice(1, 2)) is None) == (None, False)


def test_a_pool_that_a_process_left_half_made_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(make_recipe("nearest"))
    learn(learner, stream(500))
    asked, blob = unknown(learner, 0), list(encode_snapshot(learner, None))
    with sharing():
        shared = ServingModel(learner.recipe)
    shared.load(blob)
    expected = shared.predict(asked).predictions_B

    def die() -> None:
        monkeypatch.setattr(Shelf, "put", lambda *_: os._exit(0))
        shared.load(blob)

    in_a_fork(die)
    shared.clear()
    assert shared.stands_for(asked.slice(1, 2)) is None
    shared.attach()
    assert shared.stands_for(asked.slice(1, 2)) is None
    shared.load(blob)
    np.testing.assert_array_equal(shared.predict(asked).predictions_B, expected)


def test_a_shelf_holds_what_was_put_there_last_and_no_more_than_there_is_room_for() -> None:
    with sharing():
        shelf = Shelf(1 << 12)
    assert shelf.see() == {}
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 4), np.float32), "c": np.zeros(0, np.uint8)}
    for put in ({"a": np.ones(9)}, arrays):
        in_a_fork(lambda put=put: shelf.put(put))  # type: ignore[misc]
    seen = shelf.see()
    assert {name: (array.dtype, array.tolist()) for name, array in seen.items()} == {
        name: (array.dtype, array.tolist()) for name, array in arrays.items()
    }
    with pytest.raises(ArraysError, match=r"there is room for 4,096"):
        shelf.put({"a": np.zeros(512)})
    shelf.clear()
    assert shelf.see() == {}
