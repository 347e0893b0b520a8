"""The compiled step against a transcription in PyTorch that gets its gradients by autograd."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import pytest
import torch

from learner.config import FieldSettings
from learner.fast.block import Block, Predicted, block_of, occurring
from learner.fast.config import CrossSettings, FastRecipe, GroupSettings
from learner.fast.model import FastPart
from tests.learner.fast.reference import (
    BIAS_RATE,
    CENTRE_RATE,
    CROSS_PRIOR,
    GATE_LR,
    LEVEL_PRIOR,
    LEVEL_RATE,
    MAY_TURN,
    PLAIN,
    POPULATION_RATE,
    PRIOR,
    RATE,
    SETTLED,
    SQUARE_PRIOR,
    TURNED,
    Example,
    Reference,
)

FIELDS = [
    FieldSettings("user_id", "user", "id"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("hobbies", "user", "multi"),
    FieldSettings("hour", "context", "categorical"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("words", "item", "multi"),
    FieldSettings("price", "item", "numeric"),
]
GROUPS = ["user", "attributes", "attributes", "context", "item", "content", "content", "content"]
CROSSES = (CrossSettings(("user_id", "genres")), CrossSettings(("age", "hour")))
ROWS = [range(1, 30), range(30, 35), range(35, 45), range(45, 50), range(50, 80), range(80, 90), range(90, 120), [120]]
NUM_ROWS, NUM_CROSS_ROWS, NUM_SIGNALS, DIM = 121, 60, 3, 5
LEVELS = ((1, 3, 9), (2, 5))
"""Lower bounds of users' and items' levels but the first."""
NUM_LEVELS, NUM_BELIEFS, NUM_COVARIANCES = 4, 400, 60
VARIANCES = 0.4, 0.7
"""Of users' weights and factors at first."""


class Case(NamedTuple):
    """What the model has."""

    gate: bool = True
    deep: bool = True
    norms: bool = True
    levels: bool = True
    turns: bool = True
    """Whether some negatives may turn, and some do."""
    is_weighted: bool = False
    forget: float = 0.0
    histories: int = 0
    history_rate: float = 0.0
    kalman: bool = False


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def examples(seed: int, count: int, *, turns: bool = True) -> list[Example]:
    """Samples with everything that may be: fields missing, ids without a row, repeated ids, and some only predicted."""
    rng = np.random.default_rng(seed)
    out, waiting, free = [], list[int](), list(range(1, NUM_BELIEFS + 1))
    for _ in range(count):
        values = []
        for field, rows in enumerate(ROWS):
            if rng.random() < 0.12:
                continue
            size = int(rng.integers(1, 5)) if FIELDS[field].kind == "multi" else 1
            weight = float(np.float32(rng.normal())) if FIELDS[field].kind == "numeric" else float(np.float32(1 / size))
            # Drawn with replacement: an id may be twice in a sample. 0: it was not admitted.
            drawn = [0 if rng.random() < 0.05 else int(rng.choice(rows)) for _ in range(size)]
            values += [(field, row, weight) for row in drawn]
        if rng.random() < 0.3:
            rng.shuffle(values)  # type: ignore[arg-type]
        values = [(int(field), int(row), float(weight)) for field, row, weight in values]
        crosses = [
            (int(rng.integers(2)), int(rng.integers(0, NUM_CROSS_ROWS)), float(np.float32(rng.random() + 0.2)))
            for _ in range(rng.integers(0, 5))
        ]
        turn = int(rng.choice([PLAIN, MAY_TURN, TURNED, SETTLED], p=[0.5, 0.25, 0.15, 0.1])) if turns else PLAIN
        belief = 0
        if turn == MAY_TURN:
            free, belief = free[1:], free[0]
            waiting.append(belief)
        elif turn and waiting and rng.random() < 0.8:
            # The others are of negatives that were learned before there were beliefs.
            belief = waiting.pop(int(rng.integers(len(waiting))))
            free.append(belief)
        out.append(
            Example(
                values,
                crosses,
                label=float(turn == TURNED or (turn == PLAIN and rng.random() < 0.4)),
                weight=float(np.float32(rng.choice([1.0, 1.0, 0.3, 2.5]))),
                shift=float(np.float32(rng.choice([0.0, 0.0, 0.9]))),
                turn=turn,
                belief=belief,
                learn=bool(rng.random() < 0.9),
                signals=[float(np.float32(x)) for x in rng.standard_t(3, NUM_SIGNALS) * [1, 5, 0.1] + [0, 3, -1]],
                deep=float(np.float32(rng.normal())),
                levels=(int(rng.integers(len(LEVELS[0]) + 1)), int(rng.integers(len(LEVELS[1]) + 1))),
                # Of items that may be among the sample's values, and twice in a history.
                histories=[
                    (history, 0 if rng.random() < 0.1 else int(rng.choice(ROWS[4])))
                    for history in range(2)
                    for _ in range(rng.integers(0, 5))
                ],
                # Of some users none is kept, and theirs need not have the numbers of their rows.
                covariance=next((60 - row for field, row, _ in values if field == 0 and row % 5), 0),
            )
        )
    return out


def block_from(given: list[Example], num_histories: int = 0, *, kalman: bool = False) -> Block:
    """The same in arrays."""
    histories = [[(of, row, 1.0) for of, row in one.histories if of < num_histories] for one in given]

    def flat(parts: list[list[tuple[int, int, float]]]) -> tuple[np.ndarray, ...]:
        offsets = np.cumsum([0, *(len(part) for part in parts)])
        columns = [np.array(column) for column in zip(*chain.from_iterable(parts), strict=True)]
        return offsets, columns[1], columns[0], columns[2]

    return block_of(
        occurring(*flat([example.values for example in given])),
        occurring(*flat([example.crosses for example in given])),
        None,
        labels_B=np.array([example.label for example in given]),
        signals_BS=np.array([example.signals for example in given]),
        weight_B=np.array([example.weight for example in given]),
        shift_B=np.array([example.shift for example in given]),
        turn_B=np.array([example.turn for example in given]),
        belief_rows_B=np.array([example.belief for example in given]),
        covariance_rows_B=np.array([example.covariance if kalman else 0 for example in given]),
        learn_B=np.array([example.learn for example in given]),
        deep_B=np.array([example.deep for example in given]),
        levels_B2=np.array([example.levels for example in given]),
        histories=occurring(*flat(histories)) if num_histories else None,
    )


def both(seed: int, case: Case) -> tuple[FastPart, Reference]:
    """The fast part and its transcription, with the same first values."""
    settings = FastRecipe(
        factors=DIM,
        **{name: GroupSettings(PRIOR[name], RATE[name]) for name in PRIOR},
        cross_prior=CROSS_PRIOR,
        square_prior=SQUARE_PRIOR,
        centre=CENTRE_RATE,
        bias_rate=BIAS_RATE,
        forget=case.forget,
        crosses=CROSSES,
        gate=case.gate,
        gate_hidden=7,
        gate_batch=16,
        gate_norms=case.norms,
        gate_lr=GATE_LR,
        levels=case.levels,
        level_rate=LEVEL_RATE,
        level_prior=LEVEL_PRIOR,
        user_levels=LEVELS[0],
        item_levels=LEVELS[1],
        histories=("liked", "shared")[: case.histories],
        history_rate=case.history_rate,
        kalman=case.kalman,
        user_weight_variance=VARIANCES[0],
        user_variance=VARIANCES[1],
        population_rate=POPULATION_RATE,
        max_rows=max(NUM_ROWS, NUM_BELIEFS),
        max_cross_rows=NUM_CROSS_ROWS,
    )
    part = FastPart(
        settings, FIELDS, NUM_SIGNALS, seed, has_deep=case.deep, is_weighted=case.is_weighted, settles=case.turns
    )
    ids = [(row, field) for field, rows in enumerate(ROWS) for row in rows]
    v = np.random.default_rng(seed).normal(0, 0.3, (len(ids), DIM)).astype(np.float32)
    rows_N = part.table.put(np.array([row for row, _ in ids]), np.array([field for _, field in ids]), {"v": v})
    assert rows_N.tolist() == [row for row, _ in ids]
    num_crosses = NUM_CROSS_ROWS - 1
    part.cross_table.put(np.arange(1, num_crosses + 1), np.zeros(num_crosses), {})
    if case.turns:
        part.beliefs.put(np.arange(1, NUM_BELIEFS + 1), np.zeros(NUM_BELIEFS), {})
    if case.kalman:
        part.covariances.put(np.arange(1, NUM_COVARIANCES + 1), np.zeros(NUM_COVARIANCES), {})
    for table in (part.table, part.cross_table):
        table.take_touched(3)
    dense = part.dense.arrays
    first = (torch.tensor(dense.in_SH.T).double(), torch.tensor(dense.in_bias_H).double())
    reference = Reference(
        GROUPS,
        torch.tensor(part.table.values["v"][:NUM_ROWS]).double(),
        NUM_CROSS_ROWS,
        len(CROSSES),
        first if case.gate else None,
        has_deep=case.deep,
        has_norms=case.norms,
        gate_batch=16,
        num_levels=NUM_LEVELS if case.levels else 0,
        forget=case.forget,
        is_weighted=case.is_weighted,
        num_histories=case.histories,
        history_rate=case.history_rate,
        variances=VARIANCES,
    )
    return part, reference


def full(triangle_X: np.ndarray) -> np.ndarray:
    """A symmetric matrix, of its lower triangle row by row."""
    matrix = np.zeros((1 + DIM, 1 + DIM))
    matrix[np.tril_indices(1 + DIM)] = triangle_X
    return matrix + np.tril(matrix, -1).T


def close(got: np.ndarray, expected: object, what: str) -> None:
    np.testing.assert_allclose(got, np.asarray(expected, np.float64), rtol=1e-5, atol=1e-5, err_msg=what)


def assert_same_state(part: FastPart, reference: Reference) -> None:
    for name, ours in (("w", reference.w), ("G", reference.g)):
        close(part.table.values[name][:NUM_ROWS, 0], ours, name)
    for name, ours in (("v", reference.v), ("H", reference.h)):
        close(part.table.values[name][:NUM_ROWS], ours, name)
    close(part.cross_table.values["w"][:NUM_CROSS_ROWS, 0], reference.cross_w, "w of crosses")
    close(part.cross_table.values["G"][:NUM_CROSS_ROWS, 0], reference.cross_g, "G of crosses")
    dense = part.dense.arrays
    close(dense.bias_2, [reference.bias.item(), reference.squared_errors], "bias")
    close(dense.centre_2D, reference.centres, "centres")
    close(dense.delays_2, reference.delays, "delays")
    for row in range(1, part.beliefs.end):
        close(part.beliefs.values["q"][row], reference.beliefs.get(row, (0, 0)), f"belief {row}")
    if len(dense.population_X):
        close(full(dense.population_X), reference.population, "the population's covariance")
        kept = part.covariances.values["P"]
        for row, covariance in reference.covariances.items():
            close(full(kept[row]), covariance, f"covariance {row}")
    if reference.levels.shape[1]:
        close(dense.levels_2L, reference.levels, "levels")
        close(dense.level_squares_2L, reference.level_squares, "evidence of levels")
    else:
        assert not dense.levels_2L.any()
        assert not dense.level_squares_2L.any()
    if reference.net is not None:
        close(dense.mean_S, reference.mean, "mean")
        close(dense.var_S, reference.var, "var")
        first, last = reference.net[0], reference.net[2]
        for name, got, parameter in (
            ("in", dense.in_SH.T, first.weight),
            ("in bias", dense.in_bias_H, first.bias),
            ("out", dense.out_OH, last.weight),
            ("out bias", dense.out_bias_O, last.bias),
        ):
            close(got, parameter.detach(), name)
        for name, got, parameter in (
            ("in", dense.in_gradient_SH.T, first.weight),
            ("in bias", dense.in_bias_gradient_H, first.bias),
            ("out", dense.out_gradient_OH, last.weight),
            ("out bias", dense.out_bias_gradient_O, last.bias),
        ):
            close(got, np.zeros(parameter.shape) if parameter.grad is None else parameter.grad, f"gradient {name}")
        assert dense.counters_3.tolist() == [
            reference.num_seen,
            reference.num_accumulated,
            reference.num_steps,
        ]


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(turns=False, is_weighted=True),
        Case(deep=False, norms=False),
        Case(forget=0.01),
        Case(levels=False, turns=False),
        Case(gate=False, deep=False),
        Case(gate=False, levels=False),
        Case(gate=False, levels=False, turns=False, is_weighted=True),
        Case(histories=2),
        Case(histories=2, history_rate=0.05),
        Case(histories=1, history_rate=0.05, gate=False, deep=False, norms=False),
        Case(kalman=True),
        Case(kalman=True, forget=0.01, deep=False, norms=False),
        Case(kalman=True, turns=False, is_weighted=True, histories=1),
    ],
    ids=lambda case: ", ".join(name for name, has in case._asdict().items() if has),
)
def test_a_thousand_samples_are_predicted_and_learned_as_autograd_has_it(case: Case) -> None:
    part, reference = both(3, case)
    given = examples(4, 1_000, turns=case.turns)
    predicted = part.learn(block_from(given, case.histories, kalman=case.kalman))
    for b, example in enumerate(given):
        own = [entry for entry in example.histories if entry[0] < case.histories]
        said = reference(example._replace(histories=own, covariance=example.covariance if case.kalman else 0))
        close(predicted.components_BK[b], said.components, f"components of sample {b}")
        close(predicted.gates_BK[b], said.gates, f"gates of sample {b}")
        for name in ("added", "inner", "logit", "rank"):
            close(getattr(predicted, f"{name}_B")[b], getattr(said, name), f"{name} of sample {b}")
    assert_same_state(part, reference)
    used = {row for example in given if example.learn for _, row, _ in example.values} - {0}
    if case.history_rate:
        used |= {row for example in given if example.learn for of, row in example.histories if of < case.histories} - {
            0
        }
    assert part.table.take_touched(1).tolist() == sorted(used)
    crossed = {row for example in given if example.learn for _, row, _ in example.crosses} - {0}
    assert part.cross_table.take_touched(2).tolist() == sorted(crossed)


def test_each_single_step_is_the_gradient() -> None:
    """After one sample the sums of squares are the squared gradients themselves."""
    for seed in range(20):
        part, reference = both(seed, Case())
        example = next(e for e in examples(100 + seed, 20) if e.crosses and e.values and e.learn)
        part.learn(block_from([example]))
        reference(example._replace(histories=[], covariance=0))
        assert_same_state(part, reference)


def test_rank_scores_do_not_know_the_users_level() -> None:
    part, _ = both(3, Case(deep=False))
    part.learn(block_from(examples(4, 500)))
    (example,) = [e for e in examples(5, 50) if e.values[0][:1] == (0,) and e.values[0][1] and e.crosses][:1]
    before = part.predict(block_from([example]))
    part.table.values["w"][example.values[0][1]] += 5
    after = part.predict(block_from([example]))
    assert after.logit_B[0] - before.logit_B[0] == pytest.approx(5 * before.gates_BK[0, 0], abs=1e-4)
    assert after.rank_B[0] == pytest.approx(before.rank_B[0], abs=1e-5)
    for which, in_rank in ((0, 0), (1, 1)):
        part.dense.arrays.levels_2L[which, example.levels[which]] += 2
        further = part.predict(block_from([example]))
        assert further.logit_B[0] - after.logit_B[0] == pytest.approx(2, abs=1e-5)
        assert further.rank_B[0] - after.rank_B[0] == pytest.approx(2 * in_rank, abs=1e-5)
        after = further


def test_components_explain_the_logit() -> None:
    part, _ = both(3, Case())
    said: Predicted = part.learn(block_from(examples(4, 300)))
    assert len(part.components) == said.components_BK.shape[1] == 4 + 2 + 4 + 1 + 1
    close(said.inner_B, said.components_BK.sum(1, dtype=np.float64), "inner")
    close(said.logit_B, (said.components_BK * said.gates_BK).sum(1) + said.added_B, "logit")
    assert np.abs(said.gates_BK[-1] - 1).max() > 0.01


def test_fields_of_context_have_weights_and_no_vectors() -> None:
    part, _ = both(3, Case())
    before = part.table.values["v"][45:50].copy()
    given = examples(4, 300)
    part.learn(block_from(given))
    np.testing.assert_array_equal(part.table.values["v"][45:50], before)
    assert not part.table.values["H"][45:50].any()
    assert part.table.values["w"][45:50].all()
    # Nor do they count among the attributes that the mean is taken over.
    with_hour = next(e for e in given if any(field == 3 and row for field, row, _ in e.values))
    without = with_hour._replace(values=[value for value in with_hour.values if value[0] != 3])
    one, other = (part.predict(block_from([example])).components_BK[0] for example in (with_hour, without))
    products = slice(4 + len(CROSSES), 8 + len(CROSSES))
    np.testing.assert_array_equal(one[products], other[products])
    assert one[1] != other[1]
