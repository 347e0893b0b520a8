"""Retrieval on a log: what is kept, what goes on, what the tables say, what the command takes."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from support.small_ratings import NUM_ITEMS, NUM_USERS, small_ratings

from learner.retrieval.config import TwoTowerSettings
from learner.retrieval.hourly import total
from simulators.commands.options import UsageError
from simulators.commands.retrieval import retrieval
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.ratings import Ratings
from simulators.experiments.split import random_split
from simulators.retrieval.data import split_data
from simulators.retrieval.report import split_report, stream_report
from simulators.retrieval.runs import RetrievalRun, SplitResult, StreamResult, on_split, on_stream

CPU = torch.device("cpu")
SETTINGS = TwoTowerSettings(dim=4, hidden=(8,), out=4, batch=64, adapter_hidden=4, num_uniform=4)
BASE, FULL = (RetrievalRun(v, 3, SETTINGS, num=3, epochs=2, micro_batch=64) for v in ("base", "full"))


def ratings(num: int = 1500) -> Ratings:
    """Each pair of user and item once, twenty minutes apart."""
    made = small_ratings(num)
    _, first = np.unique(made.users_N * NUM_ITEMS + made.items_N, return_index=True)
    kept = np.sort(first)
    columns = {name: getattr(made, name)[kept] for name in ("users_N", "items_N", "labels_N")}
    return msgspec.structs.replace(made, **columns, ts_N=made.ts_N[0] + 1_200_000 * np.arange(len(kept)))


def test_a_log_is_what_its_ratings_say() -> None:
    made = ratings()
    data = split_data(made, random_split(len(made), 1))
    assert (len(data.users), len(data.items)) == (len(made.users.ids_E), len(made.items.ids_E))
    assert len(data.users) <= NUM_USERS
    # Items of one genre share its value, and words of titles are averaged.
    bags = [data.items.bag(data.items.numbers([each])) for each in ("i2", "i6")]
    assert [bag.values_N[1] == bags[0].values_N[1] for bag in bags] == [True, True]
    assert data.items.bag(data.items.numbers(["i5"])).weights_N.tolist() == [1, 1, 0.5, 0.5]
    assert {field.name for field in data.items.fields} == {"item_id", "genre", "title"}


def test_runs_on_a_split_are_kept_and_compared(tmp_path: Path) -> None:
    made, kept, told = ratings(), Kept(tmp_path, SplitResult), []
    results = list(on_split(made, [BASE, FULL], kept, CPU, told.append))
    assert len(told) == 4
    again = list(on_split(made, [BASE, FULL], Kept(tmp_path, SplitResult), CPU, told.append))
    assert (again, len(told)) == (results, 4)
    assert results[0].figures.recall == pytest.approx(kept.array(BASE.name, "recall").mean())
    text = split_report(made, kept, results, "the command")
    assert "    the command\n" in text
    [line] = [line for line in text.splitlines() if line.startswith("| full")]
    assert line.endswith("| +0.15 % / +0.17 % |")
    difference = results[1].figures.auc - results[0].figures.auc
    assert f"{abs(difference):.4f}".removeprefix("0") in line
    with pytest.raises(KeptError, match="with num 3 and not 4: give another --out"):
        list(on_split(made, [msgspec.structs.replace(BASE, num=4)], kept, CPU))


def test_runs_over_the_stream_are_kept_and_compared(tmp_path: Path) -> None:
    made, kept = ratings(), Kept(tmp_path, StreamResult)
    results = list(on_stream(made, [BASE, FULL], kept, CPU))
    assert results == list(on_stream(made, [BASE, FULL], kept, CPU))
    assert results[0].total == total(results[0].hours)
    assert results[0].total.num_samples == len(made)
    part = list(on_stream(made, [msgspec.structs.replace(BASE, share=0.5)], Kept(tmp_path / "half", StreamResult), CPU))
    assert part[0].hours[:-1] == results[0].hours[: len(part[0].hours) - 1]
    text = stream_report(results, "the command")
    assert "| items 0 | items 1-9 | items 10-49 | items 50-199 | items 200+ |" in text
    assert len([line for line in text.splitlines() if line.startswith(("| base", "| full"))]) == 2


def test_the_command_runs_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulators.commands.retrieval.opened_ratings", lambda *_: ratings())
    for stream in ([], ["--stream"]):
        arguments = ["--retrieval", *stream, "--variants", "base", "ssl", "--seeds", "1", "--epochs", "1", "--top", "3"]
        small = ["--set", "dim=4", "hidden=8,4", "out=4", "--json", "--out", str(tmp_path / f"out{len(stream)}")]
        said = []
        for _ in range(2):
            retrieval([*arguments, *small])
            said.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
        # What is there, and not what else was asked for.
        retrieval([*arguments, *small, "--report", "--seeds", "1", "2"])
        said.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
        assert said[0] == said[1] == said[2]
        assert [result["run"]["settings"]["hidden"] for result in said[0]["results"]] == [[8, 4]] * 2
        assert "| ssl |" in Path(said[0]["report"]).read_text(encoding="utf-8")


def test_a_report_of_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.commands.retrieval.opened_ratings", lambda *_: ratings())
    with pytest.raises(UsageError, match="none of these runs is in"):
        retrieval(["--retrieval", "--report", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "both"], "invalid choice: 'both'"),
        (["--set", "dim"], "--set dim: expected NAME=VALUE"),
        (["--set", "dims=3"], "unknown field `dims`.*--set takes dim, hidden"),
        (["--top", "0"], "Expected `int` >= 1"),
        (["--threads", "0"], "--threads 0: expected 1 or more"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        retrieval(["--retrieval", *arguments])
