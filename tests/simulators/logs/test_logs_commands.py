"""`coldstream logs`: list, show, check, new."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import polars as pl
import pytest
from support.log_files import CLICK, MAPPING, write
from typer.testing import CliRunner

from simulators.logs.commands import logs
from simulators.logs.mapping import shipped
from stream.events import Event

runner = CliRunner()


def _run(*arguments: str) -> str:
    result = runner.invoke(logs, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_and_show() -> None:
    assert set(json.loads(_run("list", "--json"))) == {*shipped(), "synthetic", "world"}
    assert "kuairand-pure" in _run("list")
    assert _run("show", "ml-1m") == shipped()["ml-1m"].read_text()


def test_check_counts_what_is_there(tmp_path: Path) -> None:
    rows = [(f"u{n % 7 if n < 100 else n}", f"i{n * n % 11}", n, n % 3 == 0) for n in range(140)]
    lines = [f"{user},{item},{ts},{int(click)}" for user, item, ts, click in rows]
    write(tmp_path, "log.csv", "user,item,ts,click", *lines, lines[-1], ",i,1,1")
    (tmp_path / "mapping.toml").write_text(MAPPING + CLICK)
    figures = json.loads(_run("check", str(tmp_path / "mapping.toml"), "--data", str(tmp_path), "--json"))
    assert (figures["rows"], figures["impressions"], figures["first_ts"], figures["last_ts"]) == (140, 140, 0, 139_000)
    assert figures["feedback"] == {"click": {"count": 47, "rate": 47 / 140}}
    users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    assert (figures["users"], figures["items"]) == (len(users), len(items))
    assert figures["share_of_top_users"] == sum(n for _, n in users.most_common(2)) / 140
    assert figures["share_of_top_items"] == items.most_common(1)[0][1] / 140
    assert figures["share_of_cold_impressions"] == sum(min(n, 10) for n in users.values()) / 140
    assert figures["rejected"]["no user"] == {
        "count": 1,
        "examples": [{"file": "log.csv", "row": 142, "text": ", i, 1, 1"}],
    }
    assert figures["rejected"]["an exact duplicate"]["count"] == 1
    events = [msgspec.convert(event, Event) for event in figures["first_events"]]
    assert [type(event).__name__ for event in events] == ["Impression", "Feedback", "Impression", "Impression"]
    shown = _run("check", str(tmp_path / "mapping.toml"), "--data", str(tmp_path))
    assert "47 (0.3357 of impressions)" in shown
    assert "left out: 1 rows, no user" in shown


ORDINARY = {
    "flags.csv": ("user_id,video_id,time_ms,is_click,long_view,tab", "{u},{i},{ms},{b},0,{c}", ["click", "long_view"]),
    "ratings.csv": ("userId,movieId,rating,timestamp", "{u},{i},{r},{s}", ["like"]),
    "events.tsv": ("visitorid\tevent\titemid\tdate", "{u}\t{e}\t{i}\t2024-01-0{d} 10:00:00", ["buy", "cart"]),
    "bare.txt": ("", "{u}::{i}::{r}::{s}", ["interaction"]),
    "watch.csv": ("uid;iid;ts;watch_time;position", "{u};{i};{s};{w};{p}", ["watch"]),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_a_drafted_mapping_is_accepted_at_once(tmp_path: Path, name: str) -> None:
    header, form, actions = ORDINARY[name]
    rows = [
        form.format(
            u=n % 30, i=n * n % 50, ms=1650812741436 + n, s=1112486027 + n, b=n % 2, c="ab"[n % 2], r=n % 5 + 1,
            e=("view", "cart", "buy")[n % 3], d=n // 100 + 1, w=n * 7 % 900, p=n % 10,
        )
        for n in range(300)
    ]  # fmt: skip
    write(tmp_path, name, *([header] if header else []), *rows)
    _run("new", str(tmp_path / name), "-o", str(tmp_path / "mapping.toml"))
    figures = json.loads(_run("check", str(tmp_path / "mapping.toml"), "--data", str(tmp_path), "--json"))
    if "negatives" not in (tmp_path / "mapping.toml").read_text():
        lost = sum(found["count"] for found in figures["rejected"].values())
        assert figures["rows"] + lost == 300
        shown = range(0, 300, 3) if name.startswith("events") else range(300)
        assert figures["users"] == len({n % 30 for n in shown})
        assert figures["items"] == len({n * n % 50 for n in shown})
    assert list(figures["feedback"]) == actions
    assert figures["days"] < 4


def test_a_drafted_mapping_for_parquet_and_json(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "uid": [1, 2] * 50,
            "item_id": range(100),
            "timestamp": range(1_700_000_000, 1_700_000_100),
            "liked": [True, False] * 50,
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "b.jsonl")
    for name in ("a.parquet", "b.jsonl"):
        _run("new", str(tmp_path / name), "-o", str(tmp_path / f"{name}.toml"))
        figures = json.loads(_run("check", str(tmp_path / f"{name}.toml"), "--data", str(tmp_path), "--json"))
        assert (figures["rows"], figures["feedback"]["liked"]["count"]) == (100, 50)


def test_a_draft_overwrites_nothing_and_says_what_it_cannot_find(tmp_path: Path) -> None:
    file = write(tmp_path, "log.csv", "user_id,item_id,colour", "a,b,red", "b,c,blue")
    out = tmp_path / "mapping.toml"
    result = runner.invoke(logs, ["new", str(file), "-o", str(out)])
    assert "no column looks like a time; its columns are user_id, item_id, colour" in str(result.exception)
    write(tmp_path, "log.csv", "user_id,item_id,ts,click", "a,b,1700000000,1", "b,c,1700000001,0")
    out.write_text("mine")
    result = runner.invoke(logs, ["new", str(file), "-o", str(out)])
    assert "is there already" in str(result.exception)
    assert out.read_text() == "mine"
