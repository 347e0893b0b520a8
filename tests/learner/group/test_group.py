"""Two and more real processes that are one learner: what they say, what they share, what they keep."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.group import group

from learner.checkpoints.folder import read_latest, write_checkpoint
from learner.content.config import ContentStartSettings
from learner.group.leader import GroupLearner
from learner.group.owners import owners
from learner.group.states import num_processes, parts_of, resharded
from learner.group.wire import Wire
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.metrics import auc
from learner.named import below
from learner.recipe import Recipe
from learner.samples.columns import blocks
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from tests.learner.fast.records import FIELDS, changed, make_records, to_samples
from tests.learner.fast.streams import assert_equal
from tests.learner.tasks import streams
from tests.learner.test_learner import DAY_MS, MODELS, as_known, make_recipe, settled, with_late_positives

pytestmark = pytest.mark.slow

State = tuple[dict[str, np.ndarray], dict[str, Any]]
COLUMNS = ("predictions_B", "ranks_B", "norms_B2", "unseen_B2", "weights_BK", "labels_B", "sizes_BF")


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """To one other process, which each new `GroupLearner` begins anew."""
    with group(2) as (leader, _):
        yield leader


def learn(learner: Learner | GroupLearner, records: Sequence[Sample], size: int = 300) -> Learned:
    return joined([learner.learn(part) for part in blocks(to_samples(records), size)])


def take(learner: GroupLearner, *, whole: bool = True) -> State:
    arrays, meta = learner.take_changes(whole=whole)
    return {name: array.copy() for name, array in arrays.items()}, meta


def recipe_of(model: str = "fast", **learner: Any) -> Recipe:
    return make_recipe(MODELS[model], **{"exchange_samples": 200, "embedding_ttl_days": 1, **learner})


def assert_same(got: Learned, expected: Learned) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)


def rows_of(table: dict[str, np.ndarray], *, but: int = -1) -> dict[int, list[float]]:
    """Key -> values, of the rows of a table's state; without those of a field."""
    chosen_N = table["fields"] != but
    values = np.concatenate([array for _, array in sorted(below("values.", table).items())], axis=1)[chosen_N]
    return dict(zip(table["keys"][chosen_N].tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("model", ["fast", "fast + dcnv2", "dcnv2"])
def test_it_learns_what_one_does_and_the_same_in_every_run(model: str, wire: Wire) -> None:
    recipe, records = recipe_of(model), with_late_positives(make_records(2000), every=4)
    one, first = Learner(recipe), GroupLearner(recipe, wire)
    alone, said = learn(one, records), learn(first, records)
    assert auc(said.labels_B, said.predictions_B) > auc(alone.labels_B, alone.predictions_B) - 0.02
    for name in ("labels_B", "rates_B", "corrections_B", "sizes_BF"):
        np.testing.assert_array_equal(getattr(said, name), getattr(alone, name), err_msg=name)
    assert (first.num_samples, take(first)[1]["max_ts"]) == (one.num_samples, one.max_ts)
    assert first.num_rows == one.num_rows
    assert_same(learn(GroupLearner(recipe, wire), records), said)


@pytest.mark.parametrize("model", ["fast", "fast + dcnv2"])
def test_users_lie_at_one_process_and_all_else_at_all_the_same(model: str, wire: Wire) -> None:
    recipe = recipe_of(model)
    learner, user = GroupLearner(recipe, wire), recipe.field("user_id")
    learn(learner, make_records(1000))
    parts = [part for part, _ in parts_of(*take(learner))]
    values, crosses = ([below(f"fast.{name}.", part) for part in parts] for name in ("table", "crosses"))
    assert rows_of(values[0], but=user) == rows_of(values[1], but=user) != {}
    assert rows_of(crosses[0]) == rows_of(crosses[1]) != {}
    for rank, table in enumerate(values):
        users_U = table["keys"][table["fields"] == user]
        assert len(users_U) > 5
        assert set(owners(users_U, 2).tolist()) == {rank}
    for name in ("bias_2", "gate_P", "levels_2L", "centre_2D"):
        np.testing.assert_array_equal(*(part[f"fast.dense.{name}"] for part in parts), err_msg=name)
    for name in below("deep.dense.", parts[0]):
        np.testing.assert_array_equal(*(part[f"deep.dense.{name}"] for part in parts), err_msg=name)


@pytest.mark.parametrize("model", ["fast", "fast + dcnv2"])
def test_it_goes_on_from_its_checkpoint_as_if_nothing_had_happened(model: str, wire: Wire, tmp_path: Path) -> None:
    recipe, records = recipe_of(model), with_late_positives(make_records(1200), every=4)
    learner = GroupLearner(recipe, wire)
    learn(learner, records[:500])
    made = in_folder(tmp_path, 1, take(learner))
    learn(learner, records[500:650])
    learner.evict_stale()
    made = in_folder(tmp_path, 2, take(learner, whole=False), made)
    assert len(made) == 2
    expected = learn(learner, records[650:])
    then = take(learner)
    found = read_latest(tmp_path)
    assert found is not None
    again = GroupLearner(recipe, wire)
    again.restore(found.arrays, found.meta["learner"])
    assert_same(learn(again, records[650:]), expected)
    now = take(again)
    assert_equal(now[0], then[0])
    assert now[1] == then[1]


def in_folder(folder: Path, number: int, state: State, behind: Any = ()) -> Any:
    arrays, meta = state
    return write_checkpoint(folder, number, arrays, {"learner": meta, "number": number}, behind=behind).segments


def test_another_number_of_processes_loses_no_row(wire: Wire) -> None:
    recipe = msgspec.structs.replace(recipe_of(), settles=True)
    stream = settled(with_late_positives(make_records(1000), every=3), after=150)
    learner = GroupLearner(recipe, wire)
    learn(learner, stream[:900])
    state = take(learner)
    alone = resharded(recipe, *state, 1)
    one = Learner(recipe)
    one.restore(*alone)
    assert (one.num_samples, num_processes(alone[1])) == (learner.num_samples, 1)
    again = GroupLearner(recipe, wire)
    again.restore(*resharded(recipe, *alone, 2))
    assert (again.num_samples, again.num_rows) == (learner.num_samples, learner.num_rows)
    back = take(again)
    for name in ("table", "crosses", "beliefs", "covariances"):
        before, after = (
            {key: row for part, _ in parts_of(*of) for key, row in rows_of(below(f"fast.{name}.", part)).items()}
            for of in (state, back)
        )
        assert before == after == rows_of(below(f"fast.{name}.", alone[0])), name
        assert before != {}
    # What was believed is known wherever its user is from now on, and is forgotten everywhere once it is settled.
    said = learn(again, stream[900:])
    assert auc(said.labels_B, said.predictions_B) > 0.7
    open_keys = {key for part, _ in parts_of(*take(again)) for key in part["fast.beliefs.keys"].tolist()}
    rows_B = to_samples(stream).rows_B
    assert open_keys & set(rows_B["imp_key"][rows_B["kind"] >= 2].tolist()) == set()


@pytest.mark.parametrize("model", ["fast", "fast + dcnv2", "dcnv2"])
def test_a_scorer_sees_no_difference(model: str, wire: Wire) -> None:
    """After a full snapshot, after increments, after ids were evicted and came back: what all processes hold."""
    recipe, records = recipe_of(model), make_records(700)
    moved = [changed(record, ts=record.core.ts + 2 * DAY_MS) for record in records[300:]]
    learner = GroupLearner(recipe, wire)
    learn(learner, records[:200])
    take_changed(learner)
    scorer = ServingModel(recipe)
    scorer.load(encode_snapshot(learner, None))
    later = [record for record in moved if record.core.user_id < "u2" and record.core.item_id < "i3"]
    learn(learner, later[:40])
    assert learner.evict_stale() > 20
    for part in (moved[100:130], moved[130:200]):
        learn(learner, part)
        scorer.load(encode_snapshot(learner, take_changed(learner)))
    fresh, alone = ServingModel(recipe), Learner(recipe)
    messages = list(encode_snapshot(learner, None))
    fresh.load(messages)
    alone.restore(*resharded(recipe, *take(learner), 1))
    probe = to_samples(as_known(alone, moved[200:300]))
    np.testing.assert_array_equal(scorer.predict(probe).predictions_B, fresh.predict(probe).predictions_B)
    of_one = ServingModel(recipe)
    of_one.load(encode_snapshot(alone, None))
    np.testing.assert_array_equal(fresh.predict(probe).predictions_B, of_one.predict(probe).predictions_B)
    assert [table.num_rows for table in fresh.tables] == [table.num_rows for table in of_one.tables]
    np.testing.assert_allclose(learner.norms_of(probe.user_keys), alone.norms_of(probe.user_keys))


def test_of_what_all_believed_nothing_is_left_behind_its_time_to_live(wire: Wire) -> None:
    """Nor a list of it; what is published is told, of all processes."""
    recipe = msgspec.structs.replace(recipe_of(), settles=True)
    negatives = [record for record in make_records(400) if record.kind == SampleKind.NEGATIVE]
    learner = GroupLearner(recipe, wire)
    learn(learner, negatives)
    take_changed(learner)
    later = [changed(r, imp_id=f"later {n}", ts=r.core.ts + 2 * DAY_MS) for n, r in enumerate(negatives[:50])]
    learn(learner, later)
    assert learner.evict_stale() > len(negatives)
    assert sum(len(part["fast.beliefs.keys"]) for part, _ in parts_of(*take(learner))) == len(later)
    fast = learner.member.learner.fast
    assert fast is not None
    assert fast.beliefs.evicted == []
    gone = set(take_changed(learner).evicted[0].tolist())
    before, after = (
        {key for records in parts for key in to_samples(records).user_keys.tolist()} for parts in ([negatives], [later])
    )
    assert before - after <= gone
    assert gone & after == set()


def test_all_tasks_are_learned(wire: Wire) -> None:
    recipe = streams.make_recipe(exchange_samples=200)
    stream = streams.to_samples(streams.make_stream(1200))
    one, several = (
        joined([learner.learn(part) for part in blocks(stream, 300)])
        for learner in (Learner(recipe), GroupLearner(recipe, wire))
    )
    assert one.by_task is not None
    assert several.by_task is not None
    for name in ("labels_BT", "known_BT", "turned_BT"):
        np.testing.assert_array_equal(getattr(several.by_task, name), getattr(one.by_task, name), err_msg=name)
    assert np.abs(several.by_task.predictions_BT - one.by_task.predictions_BT).mean() < 0.05


def test_ids_that_come_seldom_everywhere_are_admitted(wire: Wire) -> None:
    """An item that each process has met too seldom by itself has a row once all together have met it enough."""
    fields = tuple(msgspec.structs.replace(f, min_count=4) if f.name == "item_id" else f for f in FIELDS)
    recipe = msgspec.structs.replace(recipe_of(exchange_samples=10), fields=fields)
    records = [changed(record, item_id="rare") for record in make_records(40)]
    by_rank = owners(to_samples(records).user_keys, 2)
    ours, theirs = ([records[n] for n in np.flatnonzero(by_rank == rank)[:3]] for rank in range(2))
    learner = GroupLearner(recipe, wire)
    learn(learner, [*ours[:2], *theirs[:2]])
    learner.exchange()
    key = to_samples(records[:1]).item_keys
    assert learner.norms_of(key)[0] == 0
    learn(learner, ours[2:])
    learner.exchange()
    assert learner.norms_of(key)[0] > 0


def test_what_several_cannot_do_is_refused(wire: Wire) -> None:
    recipe = msgspec.structs.replace(recipe_of(), content_start=ContentStartSettings(method="mean"))
    with pytest.raises(ValueError, match=r"content_start.*learner.processes = 1"):
        GroupLearner(recipe, wire)
