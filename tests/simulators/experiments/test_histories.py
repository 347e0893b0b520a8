"""Histories in one pass: what models are given instead of what was recorded, and the command as a whole."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from rich.console import Console
from support.logs import synthetic_log
from support.refused import check_refused

from learner.adaf2m2.deep import dense_of
from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from learner.sif.frozen import FrozenTokenizer
from simulators.commands.one_pass.histories import experiment_on, parser_of
from simulators.experiments.histories.arms import PASTS, arms, history_of
from simulators.experiments.histories.cohorts import cohorts_of
from simulators.experiments.histories.past import Coded, Dense, Views, tokenizer_of
from simulators.experiments.reporting.markdown import with_interval
from simulators.experiments.stream.recorded import Recording, obtain
from simulators.experiments.stream.variant import BLOCK
from simulators.logs.declared import settings_of
from simulators.logs.mapping import find_mapping, load_mapping
from simulators.replay import ReplaySettings
from stream.settings import Settings, load_settings

PAST, LENGTH, FREEZE = PASTS["ml-1m"], 12, 300


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    log = synthetic_log(1500, seed=1)
    settings: Settings = load_settings(environment={}, defaults={**log.settings, "histories": [_declared()]})
    return obtain(settings, log, ReplaySettings(), tmp_path_factory.mktemp("recordings"), lambda what: None)


def _declared(log: str = "ml-1m") -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(history_of(PASTS[log], LENGTH))
    return found


def _learner(name: str, recording: Recording) -> Learner:
    variant = next(arm.variant for arm in arms(PAST, [LENGTH], FREEZE) if arm.variant.name == name)
    return Learner(variant.recipe(recording.settings.recipe, 7))


def _entries(samples: Samples, history: int = 0) -> list[tuple[int, np.ndarray]]:
    """Number of each sample, and an entry of its history."""
    rows = samples.rows_B
    return [
        (b, samples.entries_H[rows["history_starts"][b, history] + e])
        for b in range(len(samples))
        for e in range(rows["history_sizes"][b, history])
    ]


def test_codes_are_those_that_the_newest_version_gave_the_sample_when_it_was_shown(recording: Recording) -> None:
    learner = _learner(f"sif of {LENGTH}", recording)
    given, tokenizer = Coded(learner), tokenizer_of(learner)
    recipe, known, num_coded, num_bare = learner.recipe, {}, 0, 0
    for block in recording.blocks(BLOCK):
        version = int(tokenizer.version)
        if version:
            frozen = FrozenTokenizer(tokenizer.frozen(), recipe.fields, recipe.model.sif)
            shown = block.take(block.rows_B["kind"] == SampleKind.SHOWN)
            known |= dict(zip(zip(shown.user_ids, shown.item_keys, strict=True), frozen.words(shown), strict=True))
        samples = given(block)
        assert samples.layout == recipe.layout
        assert samples.rows_B["imp_key"].tolist() == block.rows_B["imp_key"].tolist()
        recorded = _entries(block)
        found = _entries(samples)
        assert [(b, entry["ts"], entry["item"]) for b, entry in found] == [
            (b, entry["ts"], entry["item"]) for b, entry in recorded
        ]
        for b, entry in found:
            wanted = known.get((samples.user_ids[b], entry["item"]), 0)
            assert entry["category"] == wanted
            num_coded, num_bare = num_coded + (wanted > 0), num_bare + (wanted == 0)
        learner.learn(samples)
    assert int(tokenizer.version) > 3
    # Before the first version there are none.
    assert min(num_coded, num_bare) > 1000


def test_dense_entries_are_the_vectors_that_codes_would_have_been_of(recording: Recording) -> None:
    learner = _learner(f"sif, dense of {LENGTH}", recording)
    given, tokenizer = Dense(learner), tokenizer_of(learner)
    recipe, known, compared = learner.recipe, {}, 0
    for block in recording.blocks(BLOCK):
        if int(tokenizer.version):
            frozen = FrozenTokenizer(tokenizer.frozen(), recipe.fields, recipe.model.sif)
            shown = block.take(block.rows_B["kind"] == SampleKind.SHOWN)
            known |= dict(zip(zip(shown.user_ids, shown.item_keys, strict=True), frozen.vectors(shown), strict=True))
        samples = given(block)
        entries = _entries(samples)[:200]
        words = torch.tensor([int(entry["category"]) for _, entry in entries])
        vectors, is_there = tokenizer.decode(words)
        for (b, entry), vector, there in zip(entries, vectors, is_there, strict=True):
            wanted = known.get((samples.user_ids[b], entry["item"]))
            assert bool(there) == (wanted is not None)
            np.testing.assert_allclose(vector, 0 if wanted is None else wanted, rtol=1e-3, atol=1e-3)
            compared += wanted is not None
        learner.learn(samples)
    assert compared > 100


def test_each_view_has_its_own_field_of_the_same_items(recording: Recording) -> None:
    learner = _learner(f"sif, item and fields of {LENGTH}", recording)
    given, compared = Views(learner), 0
    years = recording.settings.recipe.layout
    year = [years.fields[n].name for n in years.single].index("year")
    of_item: dict[int, int] = {}
    for block in recording.blocks(BLOCK):
        of_item |= dict(zip(block.item_keys.tolist(), block.rows_B["keys"][:, year].tolist(), strict=True))
        samples = given(block)
        recorded, by_decade, by_year = _entries(block), _entries(samples), _entries(samples, 1)
        # The recorded history is by decade itself.
        assert [entry.tolist() for _, entry in recorded] == [entry.tolist() for _, entry in by_decade]
        for (_, first), (_, second) in zip(by_decade, by_year, strict=True):
            assert (first["item"], first["ts"]) == (second["item"], second["ts"])
            assert second["category"] == of_item[int(first["item"])]
            compared += 1
        learner.learn(samples)
    assert compared > 1000


@pytest.mark.parametrize("name", PASTS)
def test_every_model_can_be_made_for_every_log(name: str) -> None:
    values = {**settings_of(load_mapping(find_mapping(name))), "histories": [_declared(name)]}
    recipe = load_settings(environment={}, defaults=values).recipe
    variants = [arm.variant for arm in arms(PASTS[name], [20, 50], FREEZE)]
    made = [(variant.recipe(recipe, 7), variant.given) for variant in variants]
    assert len(made) == len({str(each) for each in made})
    for each, _ in made:
        if each.has_deep:
            assert dense_of(each).reader is None or each.model.history != "none"


def test_cohorts_cover_every_length_once() -> None:
    entries_N = np.arange(201)
    found = dict(cohorts_of(entries_N, np.arange(201), 200))
    assert [int(found.pop(name).sum()) for name in ("all", "users < 10")] == [201, 10]
    assert sum(chosen_N.astype(int) for chosen_N in found.values()).tolist() == [1] * 201
    assert list(found) == [f"{name} entries" for name in ("0", "1-9", "10-19", "20-49", "50-99", "100-199", "200")]


def test_the_command_learns_what_is_missing_and_reports_by_length(tmp_path: Path) -> None:
    log, console = synthetic_log(1500, seed=1), Console(quiet=True)

    def reported(*arguments: str) -> tuple[str, object]:
        options = parser_of(log.name).parse_args(
            ["--histories", "--replicates", "10", "--freeze", "300", "--out", str(tmp_path), *arguments]
        )
        found = experiment_on(log, PAST, options, "the command", console)
        return (tmp_path / f"{found.file}.md").read_text(encoding="utf-8"), found

    text, _ = reported("--report", "--lengths", "5")
    assert "no results yet" in text
    only = ["--only", "^dnn$", "dnn, din of 5", "^sif of", "flat", "--seeds", "1", "2", "--lengths", "5"]
    text, found = reported(*only)
    assert len(list(tmp_path.glob("run-*.json"))) == 2 * 6
    assert {(each.part, each.variant) for each in found.compared} == {  # type: ignore[attr-defined]
        ("history", "dnn, din of 5"),
        ("history", "sif of 5"),
        ("history", "sif, flat of 5"),
        ("tokens", "sif, flat of 5"),
        ("tokens", "sif of 5"),
    }
    for part in ("the command", "1,500 impressions", "0 entries", "5 entries", "less SIF at the same length"):
        assert part in text
    for each in found.compared:  # type: ignore[attr-defined]
        assert each.seeds == [1, 2]
        assert with_interval(each.differences["all"]["auc"]) in text
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("run-*.json")}
    again, _ = reported(*only)
    assert again == text
    assert stamps == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("run-*.json")}


BAD = {
    "no such model": (["--only", "transformer"], ["--only transformer", "--list"]),
    "too long": (["--lengths", "2000"], ["--lengths 2000", "1 to 1,000"]),
    "longer than what is recorded": (["--lengths", "50", "--recorded-length", "20"], ["--lengths 50", "1 to 20"]),
    "one twice": (["--lengths", "5", "5"], ["--lengths 5 5", "twice"]),
    "none": (["--lengths", "0"], ["--lengths 0"]),
    "seed twice": (["--seeds", "3", "3"], ["--seeds 3 3", "twice"]),
    "freeze": (["--freeze", "0"], ["--freeze 0"]),
    "no data": (["--data", "/nowhere"], ["--data /nowhere"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_before_anything_is_learned(name: str, tmp_path: Path) -> None:
    arguments, said = BAD[name]
    check_refused(["--histories", *arguments], said, tmp_path / "out")
