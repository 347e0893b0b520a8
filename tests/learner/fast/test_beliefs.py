"""Negatives that may turn, and levels behind the gate."""

import numpy as np

from learner.fast.block import block_of
from learner.fast.config import GroupSettings
from learner.fast.learning.belief import MAY_TURN, PLAIN, SETTLED, TURNED
from tests.learner.fast.streams import assert_equal, learn, make_part, make_stream


def test_what_was_learned_of_a_negative_that_turns_or_is_settled_adds_up_to_what_is_right() -> None:
    """With priors so great that the second sample finds the same prediction."""
    slow = {"bias_rate": 1e-6, "gate": False, "levels": False, "square_prior": 1e9, "cross_prior": 1e6}
    slow |= {"user_variance": 1e-6, "user_weight_variance": 1e-6, "population_rate": 0.0}
    groups = {name: GroupSettings(1e6, 0.2) for name in ("user", "attributes", "context", "item", "content")}
    stream = make_stream(11, 50)
    each = [stream.part(b, b + 1) for b in range(50)]
    one = next(part for part in each if part.ids.keys_N.all() and len(part.ids.keys_N) > 4)

    def learned(*turns: int, label: float) -> tuple[np.ndarray, np.ndarray]:
        """First-order weights, and their evidence, after samples of one impression of which the last has the label."""
        part = make_part(**slow, **groups)
        for _ in range(2):
            # The item is admitted at its third occurrence.
            part.look_up(one.ids, np.zeros(1), learning=True)
        for n, turn in enumerate(turns):
            known = {"turn_B": np.array([turn]), "weight_B": np.ones(1), "shift_B": np.zeros(1)}
            labels_B = np.array([label if n == len(turns) - 1 else 0.0])
            learn(part, one._replace(labels_B=labels_B, learn_B=np.ones(1), others={**one.others, **known}))
        tables = [(table.values["w"], table.values["G"]) for table in (part.table, part.cross_table)]
        w, squares = (np.concatenate([values[1:9, 0] for values in column]) for column in zip(*tables, strict=True))
        assert np.count_nonzero(w) > 5
        return w * 1e6, squares

    positive, negative = learned(PLAIN, label=1), learned(PLAIN, label=0)
    assert positive[0].max() > 0 > negative[0].min()
    same = {"rtol": 1e-3, "atol": 1e-4}
    # Believed altogether, and taken back: the evidence is right as well.
    np.testing.assert_allclose(learned(PLAIN, TURNED, label=1), positive, **same)
    # Believed only so far.
    np.testing.assert_allclose(learned(MAY_TURN, TURNED, label=1)[0], positive[0], **same)
    np.testing.assert_allclose(learned(MAY_TURN, SETTLED, label=0)[0], negative[0], **same)
    assert np.abs(learned(MAY_TURN, label=0)[0] - negative[0]).max() > 0.01
    assert np.abs(learned(PLAIN, PLAIN, label=1)[0] - positive[0]).max() > 0.1


def test_beliefs_follow_the_share_of_late_positives_and_are_forgotten() -> None:
    """Bayes: of probability p, and a share s of positives that are late, p s / (1 - p + p s) turn."""
    part, stream = make_part(gate=False, levels=False), make_stream(14, 4_000)
    count = len(stream.labels_B)
    # All positives of the first half were late, one in four samples.
    turn_B = np.where(np.arange(count) % 4 == 0, TURNED, PLAIN).astype(np.uint8)
    turn_B[count // 2 :] = MAY_TURN
    plain = {"turn_B": turn_B, "shift_B": np.zeros(count), "weight_B": np.ones(count)}
    stream = stream._replace(
        imp_keys_B=np.arange(1, count + 1, dtype=np.uint64),
        labels_B=(turn_B == TURNED).astype(np.float32),
        learn_B=np.ones(count, np.bool_),
        others={**stream.others, **plain},
    )
    said = learn(part, stream)
    late = 2.5 + count // 8
    assert part.dense.arrays.delays_2.tolist() == [47.5, late]
    p = 1 / (1 + np.exp(-said.inner_B[count // 2 :].astype(np.float64)))
    turns = p * late / (late + 47.5)
    kept = part.beliefs.values["q"][part.beliefs.find(stream.imp_keys_B[count // 2 :])]
    np.testing.assert_allclose(kept[:, 0], turns / (1 - p + turns), rtol=1e-4)
    # Without gate and levels both parts of the model say the same.
    np.testing.assert_array_equal(kept[:, 0], kept[:, 1])
    part.forget(stream.imp_keys_B, turn_B)
    assert part.beliefs.num_rows == count // 2
    part.forget(stream.imp_keys_B, np.full(count, SETTLED))
    assert part.beliefs.num_rows == 0


def test_where_no_belief_can_be_kept_the_gate_learns_all_the_same() -> None:
    stream = make_stream(15, 300)
    states = []
    for kept in (True, False):
        part, some = make_part(gate_batch=1), stream
        others = {**stream.others, "turn_B": np.full(300, MAY_TURN, np.uint8)}
        found = part.look_up(some.ids, some.ts_B, learning=True)
        rows_B = part.believe(some.imp_keys_B, some.ts_B, others["turn_B"]) * kept
        part.learn(block_of(*found, np.zeros(300), belief_rows_B=rows_B, **others))
        states.append(part.dense.state())
    assert_equal(*states)


def test_no_sum_of_squares_falls_below_what_it_started_with() -> None:
    """Negatives are taken back that the model now thinks far more likely positive than it did then."""
    part, stream = make_part(), make_stream(12, 600)
    stream.others["turn_B"][:] = np.where(np.arange(600) < 300, PLAIN, TURNED)
    stream.labels_B[:] = 1
    learn(part, stream)
    for table in (part.table, part.cross_table):
        squares = table.values["G"][1 : table.end, 0]
        assert squares.min() == 0
        assert squares.max() > 0
    assert part.table.values["H"].min() == 0
    assert part.dense.arrays.bias_2[1] == 1
    assert part.is_finite


def test_levels_follow_steps_of_the_base_rate_and_leave_no_cohort_uncalibrated() -> None:
    stream = make_stream(13, 60_000)
    count = len(stream.labels_B)
    levels_B2 = stream.others["levels_B2"]
    # One step up and one down, of which no signal says anything.
    truth = np.choose(levels_B2[:, 0], [0.2, 0.6, 0.2, 0.3, 0.5])
    labels_B = (np.random.default_rng(1).random(count) < truth).astype(np.float32)
    others = {**stream.others, "shift_B": np.zeros(count), "turn_B": np.zeros(count), "weight_B": np.ones(count)}
    stream = stream._replace(labels_B=labels_B, others=others, learn_B=np.ones(count, np.bool_))
    late, ratios = np.arange(count) >= count // 2, []
    for levels in (True, False):
        said = learn(make_part(levels=levels, level_rate=1.0, level_prior=20.0, crosses=()), stream)
        p = 1 / (1 + np.exp(-said.logit_B.astype(np.float64)))
        cohorts = [late & (levels_B2[:, 0] == level) for level in range(5)]
        ratios.append(np.array([p[cohort].mean() / labels_B[cohort].mean() for cohort in cohorts]))
    assert np.abs(ratios[0] - 1).max() < 0.06
    assert np.abs(ratios[1] - 1).max() > 0.3
