"""Properties of the fast part that its users rely on."""

from typing import Any

import numpy as np
import pytest

from learner.config import FieldSettings
from learner.fast.config import CrossSettings, FastRecipe, GroupSettings
from learner.fast.inputs.crosses import cross, plan_of
from learner.fast.layout import FieldGroup, constants_of, group_of, value_groups
from learner.fast.learning.belief import MAY_TURN
from learner.fast.model import FastPart
from learner.tables.ids import Ids, ids_of
from learner.tables.rows import CHECKPOINT, PUBLISH
from tests.learner.fast.streams import (
    FIELDS,
    NUM_SIGNALS,
    SETTINGS,
    Stream,
    assert_equal,
    learn,
    make_part,
    make_stream,
    predict,
    without_places,
)


@pytest.mark.parametrize(
    "changes",
    [{}, {"is_weighted": True, "forget": 0.01}, {"gate": False, "levels": False}, {"kalman": False}, {"num_masks": 1}],
)
@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
def test_however_a_stream_is_cut_everything_is_equal_bit_for_bit(size: int, changes: dict[str, Any]) -> None:
    stream = make_stream(1, 3_000)
    whole, cut = make_part(**changes), make_part(**changes)
    assert_equal(
        learn(whole, stream)._asdict(), learn(cut, stream, cuts=range(size, len(stream.labels_B), size))._asdict()
    )
    assert_equal(without_places(whole.state()), without_places(cut.state()))
    assert 100 < whole.beliefs.num_rows == cut.beliefs.num_rows < 700
    dense = whole.dense.arrays
    assert (dense.counters_3[2] > 50) == changes.get("gate", True)
    assert dense.levels_2L.any() == dense.level_squares_2L.any() == changes.get("levels", True)


def test_the_same_seed_gives_the_same_and_another_one_does_not() -> None:
    stream = make_stream(2, 500)
    parts = [make_part(seed) for seed in (5, 5, 6)]
    said = [learn(part, stream) for part in parts]
    assert_equal(said[0]._asdict(), said[1]._asdict())
    assert_equal(parts[0].state(), parts[1].state())
    assert np.abs(said[0].logit_B - said[2].logit_B).max() > 1e-4


def test_predicting_changes_nothing_and_says_what_learning_would_have_said() -> None:
    stream = make_stream(3, 1_200)
    part = make_part()
    learn(part, stream.part(0, 1_000))
    for table in (part.table, part.cross_table):
        table.take_touched(PUBLISH)
    before = part.state()
    said = predict(part, stream.part(1_000, 1_200))
    assert_equal(part.state(), before)
    assert len(part.table.take_touched(PUBLISH)) == 0
    # The very next sample: of the same rows if its ids are known, which these are.
    following = stream.part(1_000, 1_001)
    assert predict(part, following).logit_B == said.logit_B[0]
    assert part.table.find(following.ids.keys_N[following.ids.keys_N > 0]).all()
    assert learn(part, following._replace(learn_B=np.ones(1, np.bool_))).logit_B == said.logit_B[0]


def test_samples_that_are_only_predicted_might_as_well_not_be_there() -> None:
    stream = make_stream(12, 600)
    with_them, without = make_part(), make_part()
    said = learn(with_them, stream)
    learned = np.flatnonzero(stream.learn_B).tolist()
    assert len(learned) < 600
    alone = [learn(without, stream.part(b, b + 1)).logit_B[0] for b in learned]
    assert said.logit_B[learned].tolist() == alone
    assert_equal(without_places(with_them.state()), without_places(without.state()))


def test_row_0_stays_zero_and_unmarked() -> None:
    part = make_part()
    learn(part, make_stream(4, 2_000))
    for table in (part.table, part.cross_table):
        assert not table.arrays.block_RX[0].any()
        assert table.arrays.touched_R[0] == 0
        assert 0 not in table.take_touched(CHECKPOINT)
        assert table.num_rows > 100
    assert part.table.find(make_stream(4, 2_000).ids.keys_N).min() == 0


def test_users_start_at_zero_and_others_near_it() -> None:
    part = make_part()
    found = part.look_up(make_stream(5, 300).ids, np.zeros(300), learning=True).values
    v = part.table.values["v"]
    users = found.rows_N[(found.kinds_N == 0) & (found.rows_N > 0)]
    others = np.unique(found.rows_N[(found.kinds_N != 0) & (found.rows_N > 0)])
    assert not v[users].any()
    assert v[others].std() == pytest.approx(0.01, rel=0.2)
    assert not part.table.values["w"].any()


def test_after_a_restore_it_goes_on_bit_for_bit() -> None:
    stream = make_stream(6, 2_000)
    there, here = make_part(), make_part(seed=9)
    learn(there, stream.part(0, 1_111))
    learn(here, stream.part(300, 900))
    there.table.evict(200_000, 100)
    here.restore(there.state())
    assert_equal(there.state(), here.state())
    # The seed of new rows is the constructor's, as settings say; the rest is the state's.
    here = make_part()
    here.restore(there.state())
    rest = stream.part(1_111, 2_000)
    assert_equal(learn(there, rest)._asdict(), learn(here, rest)._asdict())
    assert_equal(there.state(), here.state())


def test_signals_are_standardised_by_the_last_two_thousand_impressions_or_so() -> None:
    stream = make_stream(11, 3_000)
    stream.others["signals_BS"][1_500:] += 3
    part = make_part()
    learn(part, stream)
    # What becomes of a negative later is no impression of its own.
    counted_B = stream.learn_B & (stream.others["turn_B"] <= MAY_TURN)
    mean_S, var_S = np.zeros(NUM_SIGNALS), np.ones(NUM_SIGNALS)
    for n, signals_S in enumerate(stream.others["signals_BS"][counted_B]):
        share = 1 / min(n + 1, 2_000)
        distance_S = signals_S - mean_S
        mean_S = mean_S + share * distance_S
        var_S = var_S + share * (distance_S**2 - var_S)
    np.testing.assert_allclose(part.dense.arrays.mean_S[:NUM_SIGNALS], mean_S, rtol=1e-4)
    np.testing.assert_allclose(part.dense.arrays.var_S[:NUM_SIGNALS], var_S, rtol=1e-4)


def late_loss(part: FastPart, stream: Stream) -> float:
    """Log-loss over the last third of a stream that is learned."""
    said = learn(part, stream)
    late = slice(len(stream.labels_B) * 2 // 3, None)
    signs = 1 - 2 * stream.labels_B[late]
    return float(np.log1p(np.exp(signs * said.logit_B[late].astype(np.float64))).mean())


def with_labels(stream: Stream, logit_B: np.ndarray) -> Stream:
    """Labels drawn from logits, all samples alike in the loss."""
    labels_B = np.random.default_rng(0).random(len(logit_B)) < 1 / (1 + np.exp(-logit_B))
    others = {"signals_BS": stream.others["signals_BS"], "turn_B": np.zeros(len(logit_B), np.uint8)}
    return stream._replace(labels_B=labels_B.astype(np.float32), others=others)


def test_it_learns_users_and_what_goes_with_what() -> None:
    stream = make_stream(7, 9_000)
    keys_BK = stream.ids.keys_N[stream.ids.offsets_B1[:-1, None] + np.arange(3)]
    users_B, items_B = keys_BK[:, 0] % np.uint64(2) == 0, keys_BK[:, 2] % np.uint64(2) == 0
    level = with_labels(stream, np.where(users_B, 2.0, -2.0))
    assert late_loss(make_part(), level) < 0.45  # 0.36 for who knows the levels, 0.69 for who knows nothing
    taste = with_labels(stream, np.where(users_B == items_B, 3.0, -3.0))
    assert late_loss(make_part(init_std=0.1, crosses=()), taste) < 0.5


def test_the_gate_learns_what_only_the_state_tells() -> None:
    stream = make_stream(7, 9_000)
    told = with_labels(stream, 3 * np.sign(stream.others["signals_BS"][:, 0]))
    assert late_loss(make_part(gate=False), told) > 0.65
    assert late_loss(make_part(gate_lr=0.01), told) < 0.3


@pytest.mark.parametrize("where", ["w", "v", "signal", "number"])
def test_what_is_not_finite_is_seen(where: str) -> None:
    part, stream = make_part(), make_stream(8, 400)
    learn(part, stream)
    assert part.is_finite
    if where in ("w", "v"):
        part.table.values[where][1:] = np.nan
    elif where == "signal":
        stream.others["signals_BS"][3] = np.inf
    else:
        stream.ids.weights_N[:] = np.inf
    learn(part, stream)
    assert not part.is_finite


def test_weights_that_diverge_are_seen() -> None:
    part, stream = make_part(), make_stream(9, 300)
    learn(part, stream)
    stream.others["weight_B"][:] = 3e38
    learn(part, stream)
    assert not part.is_finite


def test_groups_of_fields_and_their_priors() -> None:
    hour, brand = FieldSettings("hour", "context", "categorical"), FieldSettings("brand", "item", "categorical")
    fields = [hour, brand, *FIELDS]
    groups = [group_of(field) for field in fields]
    assert groups == [
        FieldGroup.CONTEXT,
        FieldGroup.CONTENT,
        FieldGroup.USER,
        FieldGroup.ATTRIBUTES,
        FieldGroup.ITEM,
        FieldGroup.CONTENT,
    ]
    priors = {"user": 6.0, "attributes": 200.0, "context": 10.0, "item": 5.0, "content": 20.0}
    rates = {"user": 0.2, "attributes": 0.06, "context": 0.07, "item": 0.1, "content": 0.08}
    settings = FastRecipe(init_std=0.01, **{name: GroupSettings(priors[name], rates[name]) for name in priors})
    constants = constants_of(settings, fields, has_deep=False)
    assert constants.side_F.tolist() == [1, 3, 0, 1, 2, 3]
    assert constants.has_factors_F.tolist() == [0, 1, 1, 1, 1, 1]
    assert constants.prior_F.tolist() == [10, 20, 6, 200, 5, 20]
    assert constants.rate_F.tolist() == pytest.approx([0.07, 0.08, 0.2, 0.06, 0.1, 0.08])
    stds = value_groups(settings, fields)[2].stds
    assert stds == (0.01, 0.01, 0.0, 0.01, 0.01, 0.01)


def test_crosses_are_all_pairs_by_the_names_of_their_fields() -> None:
    ids = ids_of(
        np.array([0, 4, 4, 7]),
        np.array([11, 50, 51, 0, 12, 13, 50]),
        np.array([0, 3, 3, 3, 0, 0, 3]),
        np.array([1, 0.5, 0.25, 0.25, 1, 2, 3]),
    )
    plan = plan_of(SETTINGS.crosses, FIELDS)
    crosses = cross(ids, plan)
    assert crosses.offsets_B1.tolist() == [0, 2, 2, 4]
    # Each whole, whatever its values weigh.
    assert crosses.weights_N.tolist() == [1, 1, 1, 1]
    assert crosses.kinds_N.tolist() == [0] * 4
    assert len(set(crosses.keys_N.tolist())) == 4
    swapped = cross(ids, plan_of([CrossSettings(("age", "item_id")), SETTINGS.crosses[0]], FIELDS))
    assert swapped.keys_N.tolist() == crosses.keys_N.tolist()
    assert swapped.kinds_N.tolist() == [1] * 4
    other = cross(ids, plan_of([CrossSettings(("genres", "user_id"))], FIELDS))
    assert not set(other.keys_N.tolist()) & set(crosses.keys_N.tolist())
    assert len(cross(ids, plan_of([], FIELDS)).keys_N) == 0


def test_ids_read_from_a_message_are_taken_though_they_cannot_be_written_to() -> None:
    stream = make_stream(1, 50)
    frozen = Ids(*(np.frombuffer(column.tobytes(), column.dtype) for column in stream.ids))
    there, here = make_part(), make_part()
    assert_equal(learn(there, stream)._asdict(), learn(here, stream._replace(ids=frozen))._asdict())
