"""`coldstream experiment`: what is wrong is said before anything is read or trained; a report of what is there."""

from pathlib import Path

import msgspec
import pytest
import torch
from support.small_ratings import small_ratings

from simulators.commands.experiment import run
from simulators.commands.options import UsageError
from simulators.experiments.offline.results import Results
from simulators.experiments.offline.search import Plan, carry_out
from simulators.experiments.offline.settings import HyperParameters, RunSettings
from simulators.experiments.reporting.compared import Judge
from simulators.experiments.reporting.table3 import report
from state_store.errors import OperatorError

BAD = {
    "nothing said": ([], ["--table 3, --table 4, --cold-items, --stream or --histories"]),
    "both": (["--table", "3", "--cold-items"], ["--table 3, --table 4, --cold-items, --stream or --histories"]),
    "table 4 has other variants": (["--table", "4", "--variants", "half"], ["--retrieval", "half", "ssl"]),
    "another table": (["--table", "7"], ["--table", "7"]),
    "no number": (["--table", "3", "--seeds", "one"], ["--seeds", "one"]),
    "unknown model": (["--table", "3", "--models", "gpt"], ["--models", "gpt", "dcnv2"]),
    "unknown variant": (["--table", "3", "--variants", "half"], ["--variants", "half", "adapter"]),
    "unknown option": (["--table", "3", "--modles", "fm"], ["--modles"]),
    "negative epochs": (["--table", "3", "--epochs", "0"], ["--epochs 0", ">= 1"]),
    "share above 1": (["--table", "3", "--share", "1.5"], ["--share 1.5", "<= 1"]),
    "learning rate": (["--table", "3", "--lr", "-1"], ["--lr", "-1"]),
    "batch": (["--table", "3", "--batch", "256", "0"], ["--batch 0", ">= 1"]),
    "initial values": (["--table", "3", "--init", "-0.1"], ["--init -0.1", ">= 0"]),
    "seed below 0": (["--table", "3", "--seeds", "-3"], ["--seeds", "-3"]),
    "seed twice": (["--table", "3", "--seeds", "3", "3"], ["--seeds 3 3", "twice"]),
    "unknown setting": (["--table", "3", "--set", "adapter_bia=1"], ["--set", "adapter_bia"]),
    "setting without a value": (["--table", "3", "--set", "adapter_bias"], ["adapter_bias", "NAME=VALUE"]),
    "unknown device": (["--table", "3", "--device", "tpu"], ["--device tpu", "cuda"]),
    "no threads": (["--table", "3", "--threads", "0"], ["--threads 0"]),
    "no data": (["--table", "3", "--data", "/nowhere"], ["--data /nowhere", "ratings.dat"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_one_sentence(name: str, tmp_path: Path) -> None:
    arguments, said = BAD[name]
    with pytest.raises(OperatorError) as caught:
        run([*arguments, "--out", str(tmp_path / "out")])
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="--out"):
        run(["--table", "3", "--out", str(tmp_path / "file" / "below")])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="--device cuda: PyTorch finds no GPU here"):
        run(["--table", "3", "--device", "cuda", "--out", str(tmp_path)])


def test_the_report_shows_what_is_there_and_leaves_out_what_is_not(tmp_path: Path) -> None:
    common = RunSettings("fm", "base", 1, epochs=3, patience=1, options={"hidden": [8]})
    grid = HyperParameters(0.01, 4, batch=256), HyperParameters(0.05, 4, batch=256)
    plan = Plan(("fm", "dcnv2"), ("base", "full"), (1, 2), grid, common)
    ratings, results = small_ratings(2000), Results(tmp_path)
    only_fm = msgspec.structs.replace(plan, models=("fm",))
    empty, _ = report(plan, results, Judge(ratings, results, 1.0, 20), "coldstream experiment ml-1m --table 3")
    assert "no runs yet" in empty
    done = list(carry_out(only_fm, results, ratings, torch.device("cpu"), lambda r: lambda e, s: None))
    text, compared = report(plan, results, Judge(ratings, results, 1.0, 20), "the command")
    (fm,) = compared
    of = {(result.run.variant, result.run.seed): result for result in done if result.run.hyper == fm.hyper}
    assert fm.seeds == [1, 2]
    assert fm.auc == pytest.approx((of["full", 1].at_best.test_auc + of["full", 2].at_best.test_auc) / 2)
    assert fm.difference.value == pytest.approx(fm.auc - fm.base_auc, abs=1e-6)
    assert [each.difference for each in fm.by_seed] == pytest.approx(
        [each.aucs[1] - each.aucs[0] for each in fm.by_seed]
    )
    sizes = {cohort.name: cohort.samples for cohort in fm.cohorts if cohort.name.startswith("users")}
    assert sum(sizes.values()) == pytest.approx(400, abs=2)
    for part in ("the command", "fm, AdaF²M²", ".7767 / .7808", "lr0.01-dim4-decay0-batch256-init0.01", "| 50% |"):
        assert part in text
    assert "dcnv2" not in text


def test_an_error_of_the_command_line_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--help"):
        run(["--table"])
