"""Cold items: who is in which part, what the product's learner is given, what the comparators change."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from support.columns import records_of
from support.small_ratings import FIELDS, small_ratings

from learner.recipe import Recipe
from learner.samples.former import Core, Sample, State, to_columns
from learner.samples.kind import SampleKind
from simulators.experiments.cold_items import product
from simulators.experiments.cold_items.columns import Columns
from simulators.experiments.cold_items.comparators import STARTS, Comparator, ComparatorSettings, Start
from simulators.experiments.cold_items.run import OURS, ColdItems, ColdResult
from simulators.experiments.cold_items.split import ColdSplit, cold_split
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.offline.settings import HyperParameters
from simulators.experiments.ratings import Ratings
from simulators.experiments.reporting.cold_items import report

CPU = torch.device("cpu")


def _split(ratings: Ratings) -> ColdSplit:
    return cold_split(ratings, step=5, base_above=60)


def test_each_item_is_base_or_warms_up_in_the_order_of_time() -> None:
    ratings = small_ratings(1500)
    split = _split(ratings)
    counts = np.bincount(ratings.items_N)
    for item, count in enumerate(counts):
        of_item = np.flatnonzero(ratings.items_N == item)
        parts = [part[ratings.items_N[part] == item].tolist() for part in (split.base_N, *split.steps, split.test_N)]
        if count > 60:
            expected = [of_item, [], [], [], []]
        elif count >= 15:
            expected = [[], of_item[:5], of_item[5:10], of_item[10:15], of_item[15:]]
        else:
            expected = [[]] * 5
        assert parts == [list(each) for each in expected]
    assert min(counts) < 15 < max(counts)
    assert len(split.test_N) > 50


def test_columns_are_those_that_samples_one_by_one_make() -> None:
    """As the pipeline packs them, with counts as of each sample."""
    ratings = small_ratings(200)
    recipe = Recipe(FIELDS)
    chosen = np.arange(0, 200, 2)
    found = next(Columns(ratings, recipe.layout).blocks(chosen, learned=True))
    expected = []
    for k, n in enumerate(chosen):
        user, item = int(ratings.users_N[n]), int(ratings.items_N[n])
        before = chosen[:k]
        counts = []
        for entities, entity in ((ratings.users_N, user), (ratings.items_N, item)):
            of = before[entities[before] == entity]
            counts.append([len(of), int(ratings.labels_N[of].sum())])
        user_id, item_id = ratings.users.ids_E[user], ratings.items.ids_E[item]
        number = int(item_id[1:])
        features = [f"a{int(user_id[1:]) % 3}", f"g{number % 4}", [f"w{j}" for j in range(number % 3)]]
        label = int(ratings.labels_N[n])
        core = Core(f"r{n}", user_id, item_id, int(ratings.ts_N[n]), 0, features)
        expected.append(Sample(SampleKind(label), label, 0, core, State(counts[0], 0.0, 0, 0, counts[1], 0.0, 0)))
    same = to_columns(expected, recipe.layout)
    assert np.array_equal(found.keys_M, same.keys_M)
    for name in ("kind", "label", "ts", "keys", "sizes", "user_counts", "item_counts", "negative_rate", "values"):
        assert np.array_equal(found.rows_B[name], same.rows_B[name], equal_nan=name == "values"), name
    assert len(records_of(same)) == len(found) == 100


def test_what_is_only_predicted_is_not_counted_and_shows_no_label() -> None:
    ratings = small_ratings(200)
    columns = Columns(ratings, Recipe(FIELDS).layout)
    some = np.arange(100)
    before = next(columns.blocks(some, learned=False))
    assert set(before.rows_B["kind"]) == {SampleKind.SHOWN}
    assert not before.rows_B["label"].any()
    assert not before.rows_B["user_counts"].any()
    list(columns.blocks(some, learned=True))
    after = next(columns.blocks(some, learned=False))
    totals = np.bincount(ratings.users_N[some], minlength=30)
    assert np.array_equal(after.rows_B["user_counts"][:, 0], totals[ratings.users_N[some]])


def test_the_product_predicts_the_test_part_without_having_learned_from_it() -> None:
    """Other labels there change no prediction; other labels in a warm-up step change what comes after it alone."""
    ratings = small_ratings(1500)
    split, recipe = _split(ratings), Recipe(FIELDS)

    def predictions(turned_N: np.ndarray) -> list[np.ndarray]:
        labels_N = ratings.labels_N.copy()
        labels_N[turned_N] = 1 - labels_N[turned_N]
        return list(product.predicted(recipe, msgspec.structs.replace(ratings, labels_N=labels_N), split))

    as_it_is, of_test, of_step_b = (predictions(part) for part in (split.test_N[:0], split.test_N, split.steps[1]))
    assert [len(phase) for phase in as_it_is] == [len(split.test_N)] * 4
    for phase, other in zip(as_it_is, of_test, strict=True):
        assert np.array_equal(phase, other)
    same = [np.array_equal(phase, other) for phase, other in zip(as_it_is, of_step_b, strict=True)]
    assert same == [True, True, False, False]


def test_a_comparator_that_learns_everything_changes_other_rows_too() -> None:
    ratings = small_ratings(1500)
    split = _split(ratings)
    settings = ComparatorSettings("plain", hyper=HyperParameters(0.01, 4, batch=64), learns="everything")
    comparator = Comparator(settings, ratings, split, 1, CPU)
    phases = comparator.phases()
    next(phases)
    before = {name: value.clone() for name, value in comparator.fit.model.state_dict().items()}
    list(phases)
    after = comparator.fit.model.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items() if value.is_floating_point())


@pytest.mark.parametrize("start", STARTS)
def test_a_comparator_changes_nothing_but_cold_ids_when_it_warms_up(
    start: Start,
) -> None:
    ratings = small_ratings(1500)
    split = _split(ratings)
    settings = ComparatorSettings(start, hyper=HyperParameters(0.01, 4, batch=64), rounds=2)
    comparator = Comparator(settings, ratings, split, 1, CPU)
    fit, phases = comparator.fit, comparator.phases()
    next(phases)
    before = {name: value.clone() for name, value in fit.model.state_dict().items()}
    rest = list(phases)
    assert len(rest) == 3
    cold = set(ratings.items.id_rows[np.unique(ratings.items_N[split.test_N])].tolist())
    for name, value in fit.model.state_dict().items():
        changed = {int(row) for row in torch.unique((value != before[name]).nonzero()[:, 0])} if value.dim() else set()
        assert changed == (cold if name == "rows_RW" else set()), name
    assert not np.array_equal(rest[0], rest[2])


def test_new_ids_start_where_the_generator_says() -> None:
    ratings = small_ratings(1500)
    split = _split(ratings)
    settings = ComparatorSettings("plain", hyper=HyperParameters(0.01, 4, batch=64))
    plain, generated = (
        next(Comparator(msgspec.structs.replace(settings, start=start), ratings, split, 1, CPU).phases())
        for start in ("plain", "meta-embedding")
    )
    assert not np.allclose(plain, generated, atol=1e-4)


def test_what_is_there_is_not_done_again_and_the_report_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = small_ratings(6000)
    names = [field.name for field in FIELDS]
    kept = Kept(tmp_path, ColdResult)
    experiment = ColdItems(ratings, Recipe(FIELDS), kept, CPU, names)
    assert len(experiment.split.test_N) > 100
    methods = [ComparatorSettings("plain", hyper=HyperParameters(0.01, 4))]
    said: list[str] = []
    results = list(experiment.run(methods, [1, 2], said.append))
    assert [result.method for result in results] == [OURS, methods[0].name] * 2
    assert len(said) == 4 * 4
    again = list(ColdItems(ratings, Recipe(FIELDS), kept, CPU, names).run(methods, [1, 2], said.append))
    assert (again, len(said)) == (results, 16)
    text = report(experiment, kept, results, "the command")
    mean = np.mean([result.phases[3].auc for result in results if result.method == OURS])
    assert f"{mean:.4f}"[1:] in text
    assert "CVAR, its code" in text
    other = Recipe(FIELDS, learner=msgspec.structs.replace(Recipe(FIELDS).learner, block=512))
    with pytest.raises(KeptError, match="was made with other settings"):
        list(ColdItems(ratings, other, kept, CPU, names).run(methods, [1], said.append))


def test_fewer_fields_leave_the_others_as_they_are() -> None:
    ratings = small_ratings(300)
    some = ratings.with_fields(["user_id", "item_id", "title"])
    assert [field.name for field in some.fields] == ["user_id", "item_id", "title"]
    assert np.array_equal(some.users.id_rows, ratings.users.id_rows)
    for item, name in enumerate(some.items.ids_E):
        begin, end = some.items.offsets_EF[2 * item + 1 : 2 * item + 3]
        assert some.items.texts_V[begin:end] == [f"w{k}" for k in range(int(name[1:]) % 3)]
