"""A learner's cuts become checkpoints while it goes on, in the order that they were taken in, or wait."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from learner.checkpoints.folder import read_latest
from learner.tables.table import Group, Table
from stream.training.checkpoints.saver import Cut, Saver
from tests.learner.fast.streams import assert_equal


class Growing:
    """A table that grows, and is saved.

    Args:
        folder: of the checkpoints.
        before: what has to be durable first.
    """

    def __init__(self, folder: Path, before: Callable[[int], None] = lambda _: None) -> None:
        self.table = Table([Group("w", 40)], [1], 10_000)
        self.saver = Saver(folder, (), before)
        self.number = 0

    def learn(self, num_ids: int) -> None:
        keys_N = np.arange(1, num_ids + 1, dtype=np.uint64)
        rows_N = self.table.rows(keys_N, np.zeros(num_ids, np.uint8), np.full(num_ids, self.number), learning=True)
        self.table.values["w"][rows_N] += 1
        self.table.mark(rows_N)

    def cut(self) -> dict[str, np.ndarray]:
        """Begin a checkpoint; returns what is to be read back."""
        self.number += 1
        arrays = self.table.take_changes(whole=self.saver.needs_whole())
        self.saver.begin(Cut(self.number, arrays, {"number": self.number}, {0: 100 * self.number, 1: 7}))
        return self.table.state()


def test_training_goes_on_while_a_cut_is_written_and_segments_are_merged(tmp_path: Path) -> None:
    may_go_on, reached = threading.Event(), threading.Event()

    def before(_: int) -> None:
        reached.set()
        may_go_on.wait()

    growing = Growing(tmp_path, before)
    num_segments = []
    for turn in range(30):
        growing.learn(2000 if turn == 0 else 100)
        expected = growing.cut()
        assert reached.wait(60)
        assert growing.saver.is_busy
        assert not growing.saver.is_to_finish
        growing.learn(50 + turn)
        reached.clear()
        may_go_on.set()
        finished = growing.saver.finish()
        may_go_on.clear()
        assert finished is not None
        assert not growing.saver.is_busy
        cut, made = finished
        assert (cut.number, cut.cursor) == (turn + 1, {0: 100 * (turn + 1), 1: 7})
        found = read_latest(tmp_path)
        assert found is not None
        assert_equal(found.arrays, expected)
        num_segments.append(len(made.segments))
    assert num_segments[:3] == [1, 2, 3]
    assert max(num_segments) < 20
    assert growing.saver.finish() is None


def test_a_cut_that_is_refused_waits_and_is_written_as_it_was(tmp_path: Path) -> None:
    refused = [OSError(28, "No space left on device")] * 2

    def before(number: int) -> None:
        if number == 2 and refused:
            raise refused.pop()

    growing = Growing(tmp_path, before)
    growing.learn(100)
    growing.cut()
    growing.saver.finish()
    growing.learn(10)
    expected = growing.cut()
    # The first attempt was made in a thread, the second here.
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            growing.saver.finish()
        assert growing.saver.is_to_finish
        growing.learn(20)
    growing.saver.limit({0: 150, 1: 9})
    finished = growing.saver.finish()
    assert finished is not None
    assert finished[0].cursor == {0: 150, 1: 7}
    found = read_latest(tmp_path)
    assert found is not None
    assert_equal(found.arrays, expected)


def test_a_damaged_segment_has_the_next_checkpoint_hold_everything(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.learn(1000)
    growing.cut()
    growing.saver.finish()
    [segment] = tmp_path.glob("*.segment")
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    for _ in range(20):
        growing.learn(900)
        expected = growing.cut()
        growing.saver.finish()
        if growing.number > 2 and read_latest(tmp_path) is not None:
            break
    found = read_latest(tmp_path)
    assert found is not None
    assert_equal(found.arrays, expected)
