"""Groups that begin and end: of another size, and such as lose a process."""

import pytest
from support.group import group

from learner.group.agreed import GroupLostError
from learner.group.leader import GroupLearner
from learner.group.states import resharded
from learner.metrics import auc
from tests.learner.fast.records import make_records
from tests.learner.group.test_group import learn, recipe_of, take

pytestmark = pytest.mark.slow


def test_three_processes_go_on_from_what_two_have_kept() -> None:
    recipe, records = recipe_of(), make_records(1500)
    with group(2) as (two, _):
        learner = GroupLearner(recipe, two)
        learn(learner, records[:700])
        state = take(learner)
    with group(3) as (three, _):
        more = GroupLearner(recipe, three)
        more.restore(*resharded(recipe, *state, 3))
        said = learn(more, records[700:])
        assert (more.num_samples, more.num_rows > learner.num_rows - 1) == (len(records), True)
    assert auc(said.labels_B, said.predictions_B) > 0.75


def test_a_lost_process_is_told() -> None:
    with group(2) as (wire, others):
        learner = GroupLearner(recipe_of(), wire)
        others[0].kill()
        with pytest.raises(GroupLostError, match="are to be started anew"):
            learn(learner, make_records(300))
