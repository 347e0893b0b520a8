"""Nothing of the deep part is compiled once samples come."""

import pytest
from support.alone import check_alone
from support.compiled import num_compiled

from learner.adaf2m2.kernels import copies, losses, pooling, rows, signals
from learner.learner import Learner
from learner.parts import warm_up
from tests.learner.fast.records import make_records, to_samples
from tests.learner.test_learner import MODELS, learn, make_recipe, serving

_KERNELS = copies, losses, pooling, rows, signals


def check(name: str, *, learns: bool) -> None:
    """Warm up, learn and serve, and fail if more is compiled after it than before; or what only learning takes is."""
    if not learns:
        warm_up(make_recipe(MODELS[name]), learns=False)
        compiled = {name for name, number in num_compiled(_KERNELS).items() if number}
        assert compiled == {"learner.adaf2m2.kernels.pooling._pool", "learner.adaf2m2.kernels.rows.distinct"}
        return
    learner, records = Learner(make_recipe(MODELS[name])), make_records(200)
    learner.warm_up()
    before = num_compiled(_KERNELS)
    learn(learner, records)
    serving(learner).predict(to_samples(records))
    assert num_compiled(_KERNELS) == before
    assert min(before.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fast + dcnv2", "dcnv2", "fm"])
def test_after_it_nothing_is_compiled(name: str) -> None:
    check_alone(__name__, f"check({name!r}, learns=True)")


@pytest.mark.slow
def test_a_scorer_compiles_no_more_than_it_needs() -> None:
    check_alone(__name__, "check('dcnv2', learns=False)")
