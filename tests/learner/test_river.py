"""The River estimator: River's own checks, its data sets, its means of copying; and what it is built on."""

import contextlib
import copy
import io
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from river import compose, datasets, evaluate, linear_model, metrics, preprocessing
from river.checks import check_estimator, yield_checks

from learner.config import FieldSettings
from learner.fast.config import FastSettings
from learner.river import ColdstreamClassifier

README = Path(__file__).parents[2] / "README.md"


def visits(num: int, seed: int = 3) -> list[tuple[dict, bool]]:
    """Users who like items of their own kind; the features are of every type that is inferred."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(num):
        user, item = int(rng.integers(12)), int(rng.integers(20))
        x = {"user": f"u{user}", "item": item, "tags": {f"t{item % 3}", "all"}, "price": float(item), "new": item > 15}
        out.append((x, bool(rng.random() < (0.9 if user % 2 == item % 2 else 0.1))))
    return out


def learned(samples: list[tuple[dict, bool]], **options: object) -> ColdstreamClassifier:
    model = ColdstreamClassifier(**options)
    for x, y in samples:
        model.learn_one(x, y)
    return model


def frame(samples: list[tuple[dict, bool]]) -> tuple[pd.DataFrame, pd.Series]:
    return pd.DataFrame([x for x, _ in samples]), pd.Series([y for _, y in samples])


def test_it_passes_every_check_of_river() -> None:
    model = ColdstreamClassifier()
    assert model._unit_test_skips() == set()
    check_estimator(model)


def test_it_passes_them_with_declared_fields_and_crosses() -> None:
    names = sorted(next(iter(datasets.Phishing()))[0])
    fields = tuple(FieldSettings(name, "item" if n % 2 else "user", "numeric") for n, name in enumerate(names))
    model = ColdstreamClassifier(fields, crosses=((names[0], names[1]),))
    for check in yield_checks(model):
        # The long one is run above.
        if check.__name__ != "check_bounded_memory_growth":
            check(model.clone())


@pytest.mark.parametrize(("dataset", "least"), [(datasets.Phishing(), 0.95), (datasets.Bananas().take(1200), 0.65)])
def test_it_beats_a_linear_pipeline_on_rivers_data(dataset: datasets.base.Dataset, least: float) -> None:
    samples = list(dataset)
    linear = compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    ours = evaluate.progressive_val_score(samples, ColdstreamClassifier(), metrics.ROCAUC()).get()
    theirs = evaluate.progressive_val_score(samples, linear, metrics.ROCAUC()).get()
    assert ours > max(theirs, least)


def test_many_at_a_time_is_one_by_one_bit_for_bit() -> None:
    samples, later = visits(300), visits(50, seed=4)
    one, many = learned(samples), ColdstreamClassifier()
    for start in range(0, 300, 70):
        many.learn_many(*frame(samples[start : start + 70]))
    X, _ = frame(later)
    X.index = [f"row {n}" for n in range(50)]
    predicted = many.predict_proba_many(X)
    assert list(predicted.columns) == [False, True]
    assert list(predicted.index) == list(X.index)
    assert predicted[True].tolist() == [one.predict_proba_one(x)[True] for x, _ in later]
    assert many.predict_many(X).tolist() == [one.predict_one(x) for x, _ in later]


def test_frames_of_polars_are_taken_and_given() -> None:
    samples = [({"user": x["user"], "item": x["item"]}, y) for x, y in visits(100)]
    X, y = pl.DataFrame([x for x, _ in samples]), pl.Series([y for _, y in samples])
    model = ColdstreamClassifier()
    model.learn_many(X, y)
    predicted = model.predict_proba_many(X)
    assert predicted.columns == ["False", "True"]
    one = learned(samples)
    assert predicted["True"].to_list() == [one.predict_proba_one(x)[True] for x, _ in samples]


def test_a_missing_value_is_a_missing_feature() -> None:
    model = learned(visits(200))
    without = {"user": "u1", "item": 3}
    for nothing in (None, float("nan"), pd.NA, pd.NaT):
        assert model.predict_proba_one({**without, "price": nothing, "tags": nothing}) == model.predict_proba_one(
            without
        )
    # A column of integers with a gap is one of floats; its values are the same categories.
    X = pd.DataFrame({"user": ["u1", "u1"], "item": [3, None]})
    both = model.predict_proba_many(X)[True]
    assert both.tolist() == [model.predict_proba_one(x)[True] for x in (without, {"user": "u1"})]


def by_pickle(model: ColdstreamClassifier) -> ColdstreamClassifier:
    return pickle.loads(pickle.dumps(model))


def with_attributes(model: ColdstreamClassifier) -> ColdstreamClassifier:
    return model.clone(include_attributes=True)


@pytest.mark.parametrize("copied", [by_pickle, with_attributes, copy.deepcopy])
def test_a_copy_goes_on_as_the_original_would(
    copied: Callable[[ColdstreamClassifier], ColdstreamClassifier],
) -> None:
    """Fields, tables, gate, levels and counts: all of them."""
    model = learned(visits(300), seed=11)
    other = copied(model)
    for x, y in visits(200, seed=5):
        assert other.predict_proba_one(x) == model.predict_proba_one(x)
        other.learn_one(x, y)
        model.learn_one(x, y)
    assert other.seed == 11
    assert len(pickle.dumps(model)) < 2_000_000  # of several GiB of addresses


def test_a_clone_is_new() -> None:
    model = learned(visits(300))
    x = {"user": "u1", "item": 1}
    assert model.predict_proba_one(x)[True] != 0.5
    assert model.clone().predict_proba_one(x)[True] == 0.5


def test_counts_are_as_of_each_sample() -> None:
    """The gate and the levels are told of a user's and an item's samples before this one, and of no unknown ones'."""
    model = ColdstreamClassifier()
    model.learn_one({"user": "a", "item": "x"}, True)
    samples = [{"user": "a", "item": "x"}, {"user": "a"}, {"user": "b", "item": "x"}, {"item": "x"}, {"user": "a"}]
    columns = model._model._columns(samples)
    columns.rows_B["label"] = [0, 1, 1, 0, 1]
    model._model._counts.fill_and_count(columns)
    rows = columns.rows_B
    assert rows["user_counts"].tolist() == [[1, 1], [2, 1], [0, 0], [0, 0], [3, 2]]
    assert rows["item_counts"].tolist() == [[1, 1], [0, 0], [2, 1], [3, 2], [0, 0]]
    assert rows["user_last_ts"].tolist() == [1, 2, 0, 0, 3]
    model._model._counts.fill(columns)
    assert rows["user_counts"].tolist() == [[4, 3], [4, 3], [1, 1], [0, 0], [4, 3]]


def test_predicting_changes_nothing() -> None:
    model = learned(visits(100))
    before = pickle.dumps(model)
    for x, _ in visits(50, seed=9):
        model.predict_proba_one({**x, "user": "new", "never seen": 1})
    assert pickle.dumps(model) == before


def test_it_learns_tastes_that_no_first_order_weight_has() -> None:
    score = evaluate.progressive_val_score(visits(2000), ColdstreamClassifier(), metrics.ROCAUC()).get()
    assert score > 0.75


def test_memory_is_what_is_used() -> None:
    few, more = learned(visits(20)), learned([({"user": n, "item": n}, True) for n in range(2000)])
    assert few._raw_memory_usage < 100_000
    assert 2 * 2000 * 238 < more._raw_memory_usage < 3_000_000


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match="both said under 'who'"):
        ColdstreamClassifier(user="who", item="who")
    with pytest.raises(ValueError, match="'hour', which is not declared"):
        ColdstreamClassifier(crosses=(("user_id", "hour"),))
    twice = FieldSettings("age", "user", "numeric")
    with pytest.raises(ValueError, match="declared twice: age"):
        ColdstreamClassifier((twice, twice))
    with pytest.raises(ValueError, match="'user_id' must be of kind 'id'"):
        ColdstreamClassifier((FieldSettings("user_id", "user", "categorical"),))
    model = learned(visits(10))
    before = pickle.dumps(model)
    with pytest.raises(TypeError, match="'price' is numeric, got the str 'dear'"):
        model.learn_one({"price": "dear"}, True)
    with pytest.raises(TypeError, match="'when' is a Timestamp"):
        model.learn_one({"when": pd.Timestamp(0)}, True)
    with pytest.raises(TypeError, match="'tags' has several values, got a dict"):
        model.predict_one({"tags": {"a": 1}})
    with pytest.raises(ValueError, match="pass user='user_id'"):
        model.learn_one({"user_id": 5}, True)
    with pytest.raises(ValueError, match="300 fields"):
        model.learn_one({f"word {n}": 1 for n in range(295)}, True)
    with pytest.raises(ValueError, match="must be True or False, 1 or 0, got 'yes'"):
        model.learn_one({}, "yes")
    assert pickle.dumps(model) == before


def test_fewer_ids_may_be_kept() -> None:
    model = learned(
        [({"user": n, "item": n % 2}, n % 2 == 0) for n in range(400)], fast=FastSettings(factors=4, max_rows=50)
    )
    # Those that no room was left for are cold, and the items are still known.
    assert model.predict_proba_one({"user": 399, "item": 0})[True] > 0.8


def test_the_learner_does_without_river() -> None:
    code = "import sys, learner.learner, learner.estimator.model; sys.exit('river' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_of_the_readme_runs() -> None:
    found = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    [example] = [code for code in found if "ColdstreamClassifier" in code]
    assert len(example.splitlines()) == 5
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(example, {})  # our own README
    assert re.fullmatch(r"ROCAUC: 9\d\.\d+%\n", said.getvalue())
