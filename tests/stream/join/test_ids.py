"""Ids and their numbers, against a dictionary."""

import random

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.join.kernels.ids import NUM_FREE, TEXTS_END
from stream.join.memory.ids import Ids, texts_of

NAMES = st.text("ab漢", min_size=1, max_size=4) | st.text(min_size=1, max_size=40)


@given(st.lists(st.tuples(st.booleans(), st.lists(NAMES, max_size=30)), max_size=20))
@hypothesis_settings(deadline=None)
def test_they_are_what_a_dictionary_says(steps: list[tuple[bool, list[str]]]) -> None:
    ids, known = Ids(), dict[str, int]()
    for is_forgotten, names in steps:
        if is_forgotten:
            there = [known.pop(name) for name in set(names) if name in known]
            ids.forget(np.array(there + there[:1], np.int64))
        else:
            for name, number in zip(names, ids.numbers(texts_of(names)).tolist(), strict=True):
                assert known.setdefault(name, number) == number
            assert len(set(known.values())) == len(known)
        asked = [*known, *names, "never"]
        assert ids.find(texts_of(asked)).tolist() == [known.get(name, -1) for name in asked]
        numbers = np.array([*known.values()], np.int64)
        assert ids.names(numbers) == list(known)
        assert ids.bytes_of(numbers) == sum(len(name.encode()) for name in known)
        assert ids.are_known(numbers).all()
        assert len(ids) >= len(known)


def test_many_that_come_and_go_take_no_more_room_than_those_that_are_there() -> None:
    ids, rng, held = Ids(), random.Random(1), list[int]()
    for begin in range(0, 200_000, 1000):
        held += ids.numbers(texts_of([f"imp-{n}" for n in range(begin, begin + 1000)])).tolist()
        if len(held) > 5000:
            rng.shuffle(held)
            ids.forget(np.array(held[5000:], np.int64))
            del held[5000:]
    assert len(ids) <= 6000
    arrays = ids.arrays
    assert int(arrays.sizes[NUM_FREE]) == len(ids) - 5000
    assert arrays.sizes[TEXTS_END] <= len(arrays.texts) < 10 * 6000 * 4
    assert len(arrays.slots) <= 1 << 15
    assert len(set(ids.names(np.array(held, np.int64)))) == 5000


def test_hashes_differ_from_process_to_process() -> None:
    """So nobody can choose ids that are all looked for in the same place."""
    some = texts_of(["a", "b", "c"])
    hashes = []
    for _ in range(2):
        ids = Ids()
        ids.numbers(some)
        hashes.append(ids.arrays.hashes_N[:3].tolist())
    assert hashes[0] != hashes[1]
