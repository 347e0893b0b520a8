"""Training over epochs: what a batch holds, what counts are of, that runs are kept, found and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from support.small_ratings import small_ratings

from learner.metrics import auc
from simulators.experiments.feed import Feed
from simulators.experiments.kept import KeptError
from simulators.experiments.offline.results import Results
from simulators.experiments.offline.search import Plan, carry_out, found, missing, num_done
from simulators.experiments.offline.settings import MODELS, ChoiceError, HyperParameters, RunSettings, model_settings
from simulators.experiments.offline.training import Training, train
from simulators.experiments.split import counts_of, random_split

CPU = torch.device("cpu")
RUN = RunSettings("dcnv2", "full", 1, HyperParameters(0.01, 4, batch=256), epochs=2, options={"hidden": [8]})


def test_a_batch_holds_the_values_of_user_and_item() -> None:
    ratings = small_ratings(300)
    counts = counts_of(ratings, np.arange(200))
    rows_RW = torch.randn(ratings.num_rows, 5)
    samples_B = np.array([7, 250, 7])
    batch = Feed(ratings, counts, CPU).batch(samples_B, rows_RW)
    ends = [*batch.offsets_BF.tolist()[1:], len(batch.occurrence_N)]
    names = {}
    for side in (ratings.users, ratings.items):
        names |= dict(zip(side.rows_V.tolist(), side.texts_V, strict=True))
    for b, sample in enumerate(samples_B):
        user, item = int(ratings.users_N[sample]), int(ratings.items_N[sample])
        said = []
        for f in range(len(ratings.fields)):
            at = b * len(ratings.fields) + f
            rows = batch.occurrence_N[batch.offsets_BF[at] : ends[at]].tolist()
            weights = batch.weights_N[batch.offsets_BF[at] : ends[at]].tolist()
            assert weights == pytest.approx([1 / len(rows)] * len(rows))
            said.append([names[row] for row in rows])
        user_id, item_id = ratings.users.ids_E[user], ratings.items.ids_E[item]
        # As `small_ratings` makes them.
        assert said == [[user_id], [f"a{int(user_id[1:]) % 3}"], [item_id], *_of_item(int(item_id[1:]))]
        id_rows = ratings.users.id_rows[user], ratings.items.id_rows[item]
        assert batch.norms_B2[b].tolist() == pytest.approx([float(rows_RW[row, :-1].norm()) for row in id_rows])
        of_user, of_item = ratings.users_N[:200] == user, ratings.items_N[:200] == item
        labels = ratings.labels_N[:200]
        expected = [of_user.sum(), labels[of_user].sum(), of_item.sum(), labels[of_item].sum()]
        assert batch.counts_BC[b].tolist() == expected


def _of_item(number: int) -> list[list[str]]:
    return [[f"g{number % 4}"], [f"w{k}" for k in range(number % 3)]]


@pytest.mark.parametrize("init", [0.0, 1e-4, 0.1])
def test_new_embeddings_are_as_large_as_is_said(init: float) -> None:
    run = msgspec.structs.replace(RUN, hyper=msgspec.structs.replace(RUN.hyper, init=init))
    rows_RW = Training(run, small_ratings(300), CPU).fit.model.rows_RW.detach()
    assert float(rows_RW[:, :-1].std()) == pytest.approx(init, rel=0.2)
    assert not rows_RW[:, -1].any()


def test_a_field_that_is_dropped_is_its_default_vector() -> None:
    ratings = small_ratings(300)
    training = Training(RUN, ratings, CPU)
    num_fields = len(ratings.fields)
    dropped_BF = np.zeros((5, num_fields), np.bool_)
    dropped_BF[:, 2] = True
    with torch.no_grad():
        assert training.fit.model.dense.mask is not None
        training.fit.model.dense.mask.default_FD += torch.arange(float(num_fields))[:, None]
    rows_RW = training.fit.model.with_defaults()
    batch = training.fit.feed.batch(np.arange(5), rows_RW, dropped_BF)
    emb_BFD, _ = training.fit.model.dense._fields(rows_RW, batch)
    default_D = training.fit.model.dense.mask.default_FD[2]
    assert torch.equal(emb_BFD[:, 2], default_D.expand(5, -1))
    plain_BFD, _ = training.fit.model.dense._fields(rows_RW, training.fit.feed.batch(np.arange(5), rows_RW))
    assert torch.equal(emb_BFD[:, :2], plain_BFD[:, :2])
    assert not torch.equal(emb_BFD[:, 2], plain_BFD[:, 2])


def test_the_parts_of_a_split_are_disjoint_and_another_seed_has_others() -> None:
    split = random_split(1000, 4)
    assert sorted(np.concatenate(split).tolist()) == list(range(1000))
    assert [len(part) for part in split] == [600, 200, 200]
    assert random_split(1000, 5).test_N.tolist() != split.test_N.tolist()
    assert len(np.concatenate(random_split(1000, 4, share=0.1))) == 100


@pytest.mark.parametrize("variant", ["base", "masks", "adapter", "full"])
def test_a_run_learns_what_is_to_be_learned_and_repeats_itself(variant: str) -> None:
    ratings = small_ratings(3000)
    run = msgspec.structs.replace(RUN, variant=variant, epochs=6)
    result, predictions_N = train(run, ratings, CPU)
    assert result.at_best.test_auc > 0.7
    labels_N = ratings.labels_N[random_split(len(ratings), run.seed).test_N]
    assert result.at_best.test_auc == pytest.approx(auc(labels_N, predictions_N), abs=1e-9)
    assert result.dropped["0"] == result.at_best.test_auc > result.dropped["0.5"]
    again, same_N = train(run, ratings, CPU)
    assert np.array_equal(predictions_N, same_N)
    assert [e.valid_auc for e in again.epochs] == [e.valid_auc for e in result.epochs]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_trained_with_the_framework_and_without(model: str) -> None:
    ratings = small_ratings(600)
    for variant in ("base", "full"):
        run = msgspec.structs.replace(RUN, model=model, variant=variant, epochs=1, drops=False)
        result, predictions_N = train(run, ratings, CPU)
        assert 0.4 < result.at_best.test_auc < 1
        assert predictions_N.std() > 0


@pytest.mark.parametrize(("batch", "steps"), [(100, 4), (256, 2), (1024, 1)])
def test_an_epoch_is_so_many_steps_of_the_batch_that_is_searched(batch: int, steps: int) -> None:
    run = msgspec.structs.replace(RUN, hyper=HyperParameters(0.01, 4, batch=batch))
    told: list[float] = []
    Training(run, small_ratings(600), CPU).epoch(told.append)
    assert told == pytest.approx([min(1.0, step * batch / 360) for step in range(1, steps + 1)])


def test_a_run_ends_when_validation_has_not_risen_for_a_while() -> None:
    run = msgspec.structs.replace(RUN, hyper=HyperParameters(0.1, 8), epochs=60, patience=3)
    result, _ = train(run, small_ratings(600), CPU)
    assert len(result.epochs) == result.best + 1 + 3 < 60
    assert result.at_best.valid_auc == max(epoch.valid_auc for epoch in result.epochs)


def _plan(**values: object) -> Plan:
    grid = HyperParameters(0.01, 4, batch=256), HyperParameters(0.05, 4, batch=128)
    plan = Plan(("fm", "dcnv2"), ("base", "full"), (1, 2), grid, RUN)
    return msgspec.structs.replace(plan, **values)


def test_the_search_is_on_validation_and_its_best_goes_to_the_other_seeds(tmp_path: Path) -> None:
    results, plan, ratings = Results(tmp_path), _plan(models=("fm",)), small_ratings(600)
    done = list(carry_out(plan, results, ratings, CPU, lambda run: lambda epoch, share: None))
    assert (len(done), num_done(plan, results), plan.num_runs) == (6, 6, 6)
    for variant in plan.variants:
        first, second = found(plan, results, "fm", variant)
        searched = [result for result in done if result.run.variant == variant and result.run.seed == 1]
        assert len(searched) == 2
        assert first.at_best.valid_auc == max(result.at_best.valid_auc for result in searched)
        assert (second.run.seed, second.run.hyper) == (2, first.run.hyper)
    assert list(missing(plan, results)) == []


def test_a_folder_made_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    results, ratings = Results(tmp_path), small_ratings(400)
    results.keep(*train(RUN, ratings, CPU))
    other = msgspec.structs.replace(RUN, patience=1)
    with pytest.raises(KeptError, match=r"was made with patience 2 and not 1: remove it, or give another --out"):
        results.find(other)


def test_what_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """A real process, killed in the middle: what it had finished is not done again, and the end is the same."""
    code = (
        "import sys, torch\ntorch.set_num_threads(1)\nfrom pathlib import Path\nsys.path[:0] = sys.argv[2:]\n"
        "from test_offline_plan import PLAN, RATINGS\n"
        "from simulators.experiments.offline.results import Results\n"
        "from simulators.experiments.offline.search import carry_out\n"
        "list(carry_out(PLAN, Results(Path(sys.argv[1])), RATINGS, torch.device('cpu'), lambda r: lambda e, s: None))\n"
    )
    (tmp_path / "test_offline_plan.py").write_text(
        "import msgspec\nfrom support.small_ratings import small_ratings\n"
        "from simulators.experiments.offline.search import Plan\n"
        f"PLAN = msgspec.json.decode({msgspec.json.encode(_plan()).decode()!r}, type=Plan)\n"
        "RATINGS = small_ratings(600)\n"
    )
    root = Path(__file__).parents[3]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", code]
    more = [str(tmp_path), str(root / "tests"), str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(killed), *more], env=environment)
    while len(list(killed.glob("*.json"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in killed.glob("*.json")}
    plan = _plan()
    assert 3 <= len(kept) < plan.num_runs
    subprocess.run([*command, str(killed), *more], check=True, env=environment)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process had
    list(carry_out(plan, Results(whole), small_ratings(600), CPU, lambda run: lambda epoch, share: None))
    torch.set_num_threads(threads)
    assert {path.name: path.stat().st_mtime_ns for path in killed.glob("*.json") if path.name in kept} == kept
    results = Results(killed), Results(whole)
    assert [num_done(plan, each) for each in results] == [plan.num_runs] * 2
    for model in plan.models:
        for variant in plan.variants:
            for a, b in zip(*(found(plan, each, model, variant) for each in results), strict=True):
                assert a.at_best.test_auc == b.at_best.test_auc
                assert np.array_equal(results[0].predictions(a.run), results[1].predictions(b.run))


def test_options_of_masks_are_none_of_a_base() -> None:
    plan = _plan(common=msgspec.structs.replace(RUN, options={"num_masks": 2, "adapter_bias": 0.0}))
    base, full = (plan.searched("dcnv2", variant)[0] for variant in ("base", "full"))
    assert (base.options, full.options) == ({}, {"num_masks": 2, "adapter_bias": 0.0})
    assert (model_settings(base).num_masks, model_settings(full).num_masks) == (0, 2)
    assert "num_masks=2" in full.name


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ChoiceError, match=r"adapter_bia=1: .*adapter_bia"):
        model_settings(msgspec.structs.replace(RUN, options={"adapter_bia": 1}))
