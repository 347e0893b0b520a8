"""`coldstream abtest` and `coldstream world`, as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from simulators.abtest.reporting.kept import KeptRunError
from simulators.abtest.varying.figures import lift_figure
from simulators.abtest.verdict import GROUPS
from simulators.world.parameters import SHIPPED, Parameters, load_parameters
from state_store.errors import OperatorError
from stream.command.cli import build
from stream.kafka.topics import admin
from stream.sections import KafkaSettings

WORLD = """step_minutes = 480
[users]
number = 120
[items]
number = 100
"""


def run(*words: str) -> None:
    typer.main.get_command(build()).main(list(words), standalone_mode=False)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_an_aa_test_is_run_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    how = ("--world", "w.toml", "--days", "1", "--days-before", "1", "--power", "0.1", "--candidates", "20")
    run("abtest", "--aa", "--fast", "--seeds", "2", *how, "--json")
    found = last_line(capsys)
    assert set(found["arms"]) == {"a", "b"}
    for group in ("new", "old", "all"):
        for of in found[group].values():
            assert of["low"] <= of["difference"] <= of["high"]
    assert {"active_days", "duration", "click"} <= set(found["all"])
    assert [one["seed"] for one in found["seeds"]] == [7, 8]
    assert found["intervals"] >= found["intervals_excluding_zero"]
    assert json.loads(Path("runs/abtest/abtest.json").read_text(encoding="utf-8"))["all"] == found["all"]
    assert Path("runs/abtest/abtest.html").stat().st_size > 1000


def test_a_test_is_run_in_world_after_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    Path("b.toml").write_text("[arm]\nnoise = 50.0\n", encoding="utf-8")
    Path("a.toml").write_text("", encoding="utf-8")
    how = ("--world", "w.toml", "--days", "4", "--days-before", "1", "--candidates", "20", "--json")
    run("abtest", "a.toml", "b.toml", "--vary", "taste.scale=0,2", "--vary", "lists.noise=0.5", *how, "--seeds", "1")
    points = last_line(capsys)["points"]
    assert [(point["parameter"], point["value"]) for point in points] == [
        ("taste.scale", 0.0),
        ("taste.scale", 2.0),
        ("lists.noise", 0.5),
    ]
    # One of all that was varied, one of each.
    assert Path("runs/abtest/vary.html").read_text(encoding="utf-8").count("<svg") == 3
    _drawn_as_said(lift_figure(points), points)
    # Whoever orders by noise alone reaches no farther than chance; one world alone may hide it.
    run("abtest", "a.toml", "b.toml", "--vary", "taste.scale=2", *how, "--seeds", "8")
    (found,) = last_line(capsys)["points"]
    assert found["all"]["reach"]["high"] < 0, found["all"]


def _drawn_as_said(figure: Figure, points: list[dict[str, Any]]) -> None:
    """A panel for each parameter, in which every group has its intervals where the points have them."""
    for axes, parameter in zip(figure.axes, ("taste.scale", "lists.noise"), strict=True):
        assert axes.get_xlabel() == parameter
        assert axes.get_ylabel() == "reach, %"
        of = [point for point in points if point["parameter"] == parameter]
        assert [bars.get_label() for bars in axes.containers] == list(GROUPS)
        for group, bars in zip(GROUPS, axes.containers, strict=True):
            assert isinstance(bars, ErrorbarContainer)
            line, _, (ranges,) = bars.lines
            found = [point[group]["reach"] for point in of]
            assert line.get_ydata() == pytest.approx([100 * one["difference"] for one in found])
            drawn = [sorted(segment[:, 1]) for segment in ranges.get_segments()]
            assert drawn == [pytest.approx([100 * one["low"], 100 * one["high"]]) for one in found]


def test_what_an_earlier_run_left_stays_when_something_is_mistyped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = Path("runs/abtest/worlds/seed-7.json")
    kept.parent.mkdir(parents=True)
    kept.write_text("{}", encoding="utf-8")
    for words in (("--vary", "lists.noise=x"), ("--vary", "lists.noise=2"), ("--world", "none.toml")):
        with pytest.raises(OperatorError):
            run("abtest", "--aa", *words)
        assert kept.exists()


def test_a_test_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    how = ("--world", "w.toml", "--days", "1", "--days-before", "1", "--candidates", "20", "--json", "--resume")
    run("abtest", "--aa", *how, "--seeds", "1")
    kept = Path("runs/abtest/worlds/seed-7.json")
    when = kept.stat().st_mtime_ns
    run("abtest", "--aa", *how, "--seeds", "2")
    resumed = last_line(capsys)
    assert kept.stat().st_mtime_ns == when
    run("abtest", "--aa", *(word for word in how if word != "--resume"), "--seeds", "2")
    assert last_line(capsys) == resumed
    with pytest.raises(KeptRunError, match="--resume"):
        run("abtest", "--aa", *how, "--cap", "0.9", "--seeds", "2")


@pytest.mark.slow
def test_a_test_behind_a_broker_is_told_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    how = ("--world", "w.toml", "--days", "1", "--days-before", "1", "--candidates", "20", "--seeds", "1")
    run("abtest", "--aa", "--broker", "embedded", "--loose", *how, "--json")
    found = last_line(capsys)
    assert found["all"]["click"]["low"] <= found["all"]["click"]["high"]
    told = json.loads(Path("runs/abtest/abtest-progress.json").read_text(encoding="utf-8"))
    assert (told["seed"], told["day"], told["world"], told["worlds"]) == (7, 1, 1, 1)
    assert told["all"] == told["by_day"][-1]["all"] == found["all"]
    for log in ("monitor.log", "seed-7/a/learner.log", "seed-7/b/serve.log"):
        assert "Traceback" not in (Path("runs/abtest") / log).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_world_that_was_stopped_behind_a_broker_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    how = ("--world", "w.toml", "--days", "1", "--days-before", "0", "--candidates", "20", "--seeds", "1", "--resume")
    run("abtest", "--aa", "--broker", "embedded", *how, "--json")
    first = last_line(capsys)
    # As where it was stopped right before the end: checkpoints are there, the world is not.
    assert list(Path("runs/abtest/seed-7/a").glob("**/*.json"))
    Path("runs/abtest/worlds/seed-7.json").unlink()
    run("abtest", "--aa", "--broker", "embedded", *how, "--json")
    assert last_line(capsys) == first


@pytest.mark.slow
@pytest.mark.kafka
def test_a_kafka_that_is_there_is_left_as_it_was(
    apache_kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.toml").write_text(WORLD, encoding="utf-8")
    client = admin(KafkaSettings(url=apache_kafka))
    client.create_topics({"a-7-impressions": {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)

    def there() -> tuple[list[str], list[str]]:
        return sorted(client.list_topics()), sorted(str(group["group_id"]) for group in client.list_groups())

    before = there()
    how = ("--world", "w.toml", "--days", "1", "--days-before", "1", "--candidates", "20", "--seeds", "1")
    run("abtest", "--aa", "--kafka", apache_kafka, *how, "--json")
    assert last_line(capsys)["arms"]["a"]["users"] > 0
    after = there()
    client.close()
    assert {topic for topic in after[0] if not topic.startswith("__")} == {
        topic for topic in before[0] if not topic.startswith("__")
    }
    assert after[1] == before[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("abtest",), "two arms"),
        (("abtest", "a.toml", "b.toml", "--aa"), "leave b.toml out"),
        (("abtest", "a.toml", "b.toml"), "a.toml"),
        (("abtest", "--aa", "--world", "none.toml"), "none.toml"),
        (("abtest", "--aa", "--learns-from", "some"), "learns-from some"),
        (("abtest", "--aa", "--broker", "rabbit"), "rabbit"),
        (("abtest", "--aa", "--broker", "kafka", "--fast"), "leave one"),
        (("abtest", "--aa", "--loose"), "--broker"),
        (("abtest", "--aa", "--kafka", "h:1", "--broker", "embedded"), "h:1"),
        (("abtest", "--aa", "--kafka", "h:1", "--fast"), "leave one"),
        (("abtest", "--aa", "--kafka", ""), "HOST:PORT"),
        (("abtest", "--aa", "--kafka", "h:1", "--vary", "lists.noise=0"), "leave --kafka h:1"),
        (("abtest", "--aa", "--paired"), "learns_from"),
        (("abtest", "--aa", "--vary", "lists.noise=x"), "VALUE"),
        (("abtest", "--aa", "--vary", "lists.noisy=1"), "lists.noisy"),
        (("abtest", "--aa", "--vary", "lists.noise=2"), "lists.noise=2"),
        (("abtest", "--aa", "--vary", "users.number=nan"), "whole number"),
        (("abtest", "--aa", "--vary", "users.number=20.5"), "users.number=20.5: expected a whole number"),
        (("abtest", "--aa", "--vary", "lists.noise=0", "--power", "0.1"), "--power 0.1"),
        (("abtest", "--aa", "--vary", "lists.noise=0", "--broker", "kafka"), "leave --broker"),
        (("world", "stream", "--events", "all"), "no end"),
        (("world", "fit", "synthetic", "-o", "there.toml"), "is there already"),
    ],
)
def test_what_makes_no_sense_is_said(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.toml").write_text("", encoding="utf-8")
    with pytest.raises(OperatorError, match=said):
        run(*words)


def test_the_default_world_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run("world", "show")
    assert capsys.readouterr().out == SHIPPED.read_text(encoding="utf-8")
    assert load_parameters(SHIPPED) == Parameters()


def test_a_world_like_a_log_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("world", "fit", "synthetic", "--events", "8000", "-o", "like.toml", "--json")
    figures = last_line(capsys)["figures"]
    assert figures["like: rate"]["world"] == pytest.approx(figures["like: rate"]["log"], abs=0.05)
    run("world", "stream", "--world", "like.toml", "--events", "5000", "--json")
    assert last_line(capsys)["stretches"][-1]["impressions"] == 5000
