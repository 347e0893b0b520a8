"""What is said of streams: findings in words, weights in words and as a picture, the command as a whole."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console
from support.logs import synthetic_log
from support.refused import check_refused

from simulators.commands.one_pass.stream import experiment_on, parser_of
from simulators.commands.options import UsageError
from simulators.experiments.kept import KeptError
from simulators.experiments.reporting.findings import StreamReport, findings
from simulators.experiments.reporting.learned_weights import MeanWeights, draw, report
from simulators.experiments.reporting.markdown import signed, with_interval
from simulators.experiments.statistics.bootstrap import Interval
from simulators.experiments.stream.cohorts import NAMES
from simulators.experiments.stream.judge import Compared

ABOVE, BELOW, AROUND = Interval(0.02, 0.01, 0.03), Interval(-0.02, -0.03, -0.01), Interval(0.0, -0.01, 0.01)


def _compared(part: str, users: Interval, items: Interval, against: str = "dcnv2") -> Compared:
    differences = {"users < 10": {"auc": users}, "items < 10": {"auc": items}, "users 0": {"auc": AROUND}}
    return msgspec.convert(
        {"part": part, "variant": f"with {part}", "against": against, "seeds": [7]}
        | {"differences": msgspec.to_builtins(differences), "by_seed": {}},
        Compared,
    )


def _said(text: str, part: str) -> str:
    """The paragraph on a part."""
    return next(each for each in text.split("\n\n") if each.startswith(f"**{part}**"))


def test_a_lift_counts_where_both_logs_have_it() -> None:
    one = StreamReport("ml-1m", "like", 0, 100, [_compared("masks", ABOVE, AROUND), _compared("adapter", ABOVE, BELOW)])
    two = StreamReport(
        "kuairand-pure", "click", 0, 100, [_compared("masks", AROUND, AROUND), _compared("adapter", ABOVE, BELOW)]
    )
    text = findings([one, two])
    assert "On ml-1m (like) and kuairand-pure (click)" in text
    assert "Only one log" not in text
    masks, adapter, gate = (_said(text, part) for part in ("Masks", "The adapter", "The fast part's gate"))
    assert "**there is none** (1 configuration, 2 and 1 comparisons)" in masks
    assert "ml-1m (like) by itself has 1 of the first 2 above zero and 0 below." in masks
    assert "- asked first: *with adapter* less *dcnv2*: users < 10, AUC +.0200 (+.0100 to +.0300); +.0200" in adapter
    assert "- finer: none" in adapter
    assert "below zero: *with adapter* less *dcnv2*: items < 10" in adapter
    assert "no comparison is there" in gate


def test_one_log_by_itself_is_said_to_be_one() -> None:
    one = StreamReport("ml-1m", "like", 0, 100, [_compared("masks", ABOVE, AROUND)])
    text = findings([one])
    assert "Only one log is here" in text
    assert "*with masks* less *dcnv2*: users < 10" in _said(text, "Masks")


def test_only_comparisons_that_every_log_has_are_counted() -> None:
    one = StreamReport("ml-1m", "like", 0, 9, [_compared("masks", ABOVE, ABOVE), _compared("masks", ABOVE, ABOVE, "x")])
    two = StreamReport("kuairand-pure", "click", 0, 9, [_compared("masks", ABOVE, BELOW, "x")])
    assert "comparisons):\n- asked first: *with masks* less *x*" in findings([one, two])


def _means(rises: tuple[float, float]) -> MeanWeights:
    """Of two seeds; the weight of the user's id rises by so much from the coldest to the warmest users."""
    at_C = np.linspace(0, 1, len(NAMES))
    flat_C = np.full(len(NAMES), 0.8)
    of_seeds = [np.stack([0.5 + rise * at_C, flat_C, flat_C], axis=1) for rise in rises]
    names = ["deep user_id", "deep item_id", "deep age"]
    return MeanWeights("dcnv2, adapter", names, [1, 2], of_seeds, of_seeds)


@pytest.mark.parametrize(
    ("rises", "said"),
    [((0.2, 0.1), " rises, from"), ((-0.2, -0.1), " falls, from"), ((0.2, -0.1), "rises at some seeds")],
)
def test_whether_ids_gain_weight_is_said(rises: tuple[float, float], said: str) -> None:
    text = report([_means(rises)], "a log", None)
    sentence = next(each for each in text.split("*dcnv2, adapter*: ") if each.startswith("the weight of `user_id`"))
    assert said in sentence
    assert "from 0 to 200+ earlier impressions of the user by " + ("+.2" if rises[0] > 0 else "-.2") in sentence
    mean = np.mean([0.5 + rise for rise in rises])
    assert f"| {mean:.3f}"[:-1].replace("0.", ".") in text


def test_a_rise_that_other_fields_have_too_is_called_so() -> None:
    means = _means((0.2, 0.1))
    together = [np.repeat(each[:, :1], 3, axis=1) for each in means.by_users_SCK]
    text = report([msgspec.structs.replace(means, by_users_SCK=together)], "a log", None)
    assert "rises, but no more than other fields do" in text


def test_the_picture_has_a_row_for_each_variant(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2):
        path = draw([_means((0.2, 0.1))] * count, "a log", tmp_path / "weights.png")
        assert path is not None
        picture = imread(path)
        assert picture.shape[1] == 1200
        assert (picture[..., :3] < 0.9).any(axis=2).mean() > 0.005
        heights.append(picture.shape[0])
    assert heights[1] > heights[0]
    assert draw([], "a log", tmp_path / "none.png") is None


def test_the_command_learns_what_is_missing_and_reports_what_is_there(tmp_path: Path) -> None:
    log, console = synthetic_log(800, seed=1), Console(quiet=True)

    def reported(*arguments: str) -> tuple[str, StreamReport]:
        options = parser_of(log.name).parse_args(["--stream", "--replicates", "10", "--out", str(tmp_path), *arguments])
        found = experiment_on(log, options, "the command", console)
        return (tmp_path / "stream-synthetic-like.md").read_text(encoding="utf-8"), found

    text, found = reported("--report")
    assert "no results yet" in text
    assert found.compared == []
    text, found = reported("--only", "^fast$", "no gate", "item mean", "dcnv2, adapter$", "--seeds", "1", "2")
    kept = sorted(path.name for path in tmp_path.glob("run-*.json"))
    assert len(kept) == 9  # Four variants at two seeds, and a rival.
    by_part = {each.part: each for each in found.compared}
    assert {"adapter", "gate", "fast part", "rival", "whole"} >= set(by_part) >= {"gate", "rival", "whole"}
    assert by_part["gate"].seeds == [1, 2]
    for part in ("the command", "800 impressions", "fast, no gate", "item mean", "**Masks**", "mean weight by cohort"):
        assert part in text
    assert (tmp_path / "stream-synthetic-like-weights.png").exists()
    more = (tmp_path / "stream-synthetic-like-more.md").read_text(encoding="utf-8")
    gate = by_part["gate"]
    shown = f"| gate: fast less fast, no gate | {' / '.join(signed(value) for value in gate.by_seed['all'])} |"
    assert shown in more
    assert with_interval(gate.differences["users < 10"]["log_loss"]) in more
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("run-*.json")}
    other = msgspec.structs.replace(found, log="another")
    (tmp_path / "stream-another-like.json").write_bytes(msgspec.json.encode(other))
    text, again = reported("--only", "fast", "item mean", "--seeds", "1", "--no-rivals", "--report")
    assert stamps == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("run-*.json")}
    assert "On synthetic (like) and another (like)." in text
    assert {each.part: each for each in again.compared}["gate"].seeds == [1]
    with pytest.raises(KeptError, match="other samples or settings"):
        reported("--only", "^fast$", "--seeds", "1", "--set", "fast.factors=4")


BAD = {
    "no such variant": (["--only", "transformer"], ["--only transformer", "--list"]),
    "no expression": (["--only", "("], ["--only (", "regular expression"]),
    "seed twice": (["--seeds", "3", "3"], ["--seeds 3 3", "twice"]),
    "events": (["--events", "none"], ["--events", "none"]),
    "micro-batch": (["--micro-batch", "5000"], ["--micro-batch 5000", "1 to 1,024"]),
    "replicates": (["--replicates", "0"], ["--replicates 0"]),
    "unknown option": (["--modles"], ["--modles", "experiment ml-1m --stream"]),
    "no data": (["--data", "/nowhere"], ["--data /nowhere"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_before_anything_is_learned(name: str, tmp_path: Path) -> None:
    arguments, said = BAD[name]
    check_refused(["--stream", *arguments], said, tmp_path / "out")


def test_the_other_log_needs_to_be_told_so() -> None:
    from simulators.commands.one_pass.stream import run as run_stream

    with pytest.raises(UsageError, match="experiment kuairand-pure: say which, --stream"):
        run_stream("kuairand-pure", [])
