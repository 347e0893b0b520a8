"""Nothing is compiled once samples come."""

import numpy as np
import pytest
from support.alone import check_alone
from support.compiled import num_compiled

from learner.fast import block, model, step
from learner.fast.inputs import crosses, occurrences
from learner.fast.warm_up import warm_up
from learner.samples.columns import concatenate, decode
from learner.tables import index, rows, table
from learner.tables.table import EVERYONE
from tests.learner.fast.records import make_records, to_samples
from tests.learner.fast.streams import learn, make_part, make_stream, predict

_MODULES = block, crosses, model, step, occurrences, index, rows, table


def check(changes: dict[str, object]) -> None:
    """Warm up, do everything, and fail if more is compiled after it than before."""
    assert warm_up() > 0
    before = num_compiled(_MODULES)
    # As they come from an outbox, one entry or several.
    samples = to_samples(make_records(3))
    plan = occurrences.plan_of(samples.layout)
    for some in (samples, decode(samples.encode(), samples.layout), concatenate([samples, samples])):
        occurrences.occurrences_of(some, plan)
    part, stream = make_part(**changes), make_stream(1, 1_500)
    learn(part, stream, cuts=[1, 700])
    predict(part, stream)
    part.table.evict(500_000, 10_000)
    part.table.take_evicted()
    part.table.take_touched(EVERYONE)
    part.table.put(np.array([3, 4]), np.zeros(2), {"w": np.ones((2, 1))})
    part.table.drop(np.array([3]))
    part.restore(part.state())
    after = num_compiled(_MODULES)
    assert after == before, {name: (before[name], number) for name, number in after.items() if number != before[name]}
    assert sum(before.values()) > 8


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"gate": False, "crosses": ()}])
def test_after_it_nothing_is_compiled(changes: dict[str, object]) -> None:
    check_alone(__name__, f"check({changes!r})")
