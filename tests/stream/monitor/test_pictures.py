"""The pictures of a run: each is there if it has data, can be read, and shows what it should."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from support.logs import synthetic_log
from support.served import drawn, fed

from simulators.replay import ReplaySettings
from simulators.runs.backtest import BacktestSettings
from simulators.runs.run_backtest import run_backtest
from stream.monitor.history.recorder import read_buckets
from stream.monitor.page.pictures import draw_pictures
from stream.monitor.page.view import View
from stream.monitor.served.meter import ServedMeter
from stream.settings import load_settings

OVER_TIME = ["cohorts-auc.png", "cohorts-calibration.png", "cohorts-ne.png"]


def view_of_a_run(folder: Path, *overrides: str) -> dict[str, Any]:
    """A backtest of a few thousand events, as the report sees it."""
    settings = load_settings(environment={}, overrides=["monitor.bucket_s=0.5", *overrides])
    replay = ReplaySettings(seed=2, delay_median_s=120.0)
    run_backtest(settings, synthetic_log(4000, seed=2), replay, folder, BacktestSettings())
    return View(settings).show(read_buckets(folder))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return view_of_a_run(tmp_path_factory.mktemp("run"))


def pixels(path: Path) -> np.ndarray:
    """Height, width, and red, green, blue, alpha, from 0 to 1."""
    return np.asarray(imread(path))


def only_auc(shown: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What gives a single picture, with changes to the series."""
    lines = [
        {**line, **{name: [[None] * 3] * len(line[name]) for name in ("calibration", "ne")}}
        for line in shown["series"]["lines"]
    ]
    return {**with_series(shown, lines=lines, **changes), "whole": [], "nth": None}


def with_series(shown: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**shown, "series": {**shown["series"], **changes}}


def test_each_picture_can_be_read_and_is_not_blank(shown: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "made" / "for it"
    paths = draw_pictures(shown, folder)
    assert [path.name for path in paths] == [*OVER_TIME, "passage.png", "weights.png", "summary.png"]
    assert sorted(folder.iterdir()) == sorted(paths)
    for path in paths:
        image = pixels(path)
        height, width, channels = image.shape
        assert (width, channels) == (1200, 4), path.name
        assert 400 < height < 1000, path.name
        assert image[..., :3].var() > 0.005, path.name
        assert (image[..., :3].max(axis=2) - image[..., :3].min(axis=2)).max() > 0.5, f"{path.name} has no colour"


def test_there_is_a_panel_for_each_cohort_with_samples(shown: dict[str, Any], tmp_path: Path) -> None:
    users = [line for line in shown["series"]["lines"] if line["dimension"] == "user" and sum(line["samples"])]
    assert len(users) > 3
    heights = []
    for number, lines in enumerate((users, users[:3])):
        (path,) = draw_pictures(only_auc(with_series(shown, lines=lines)), tmp_path / str(number))
        heights.append(len(pixels(path)))
    assert heights[0] > heights[1], "three in a row"


def test_where_nothing_is_weighed_by_state_there_is_no_picture_of_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shown = view_of_a_run(tmp_path / "run", "fast.gate=false")
    names = [path.name for path in draw_pictures(shown, tmp_path / "pictures")]
    assert names == [*OVER_TIME, "passage.png", "summary.png"]


def test_what_was_served_has_a_picture_with_a_row_for_each_group(shown: dict[str, Any], tmp_path: Path) -> None:
    settings = load_settings(environment={})
    served = fed(ServedMeter(settings.monitor, len(settings.fields)), *drawn())
    rows = View(settings).show([], served=served)["served"]
    assert rows is not None
    heights = []
    for number, few in enumerate((rows["whole"], rows["whole"][:4])):
        drawn_too = {**only_auc(shown), "series": None, "served": {"whole": few}}
        (path,) = draw_pictures(drawn_too, tmp_path / str(number))
        assert path.name == "served.png"
        assert pixels(path)[..., :3].var() > 0.005
        heights.append(len(pixels(path)))
    assert heights[0] > 2 * heights[1]


def test_alarms_are_marked_where_their_point_is(shown: dict[str, Any], tmp_path: Path) -> None:
    end_ms, count = shown["series"]["end_ms"], len(shown["series"]["end_ms"])
    assert count > 4
    changed = {}
    (path,) = draw_pictures(only_auc(shown, alarms=[]), tmp_path)
    without = pixels(path)
    for at in (1, count - 2):
        # Within the stretch of that point: later than the end of the one before it.
        alarm = {"end_ms": end_ms[at - 1] + 1, "said": "user 0: calibration drifted, now 1.4"}
        draw_pictures(only_auc(shown, alarms=[alarm, alarm]), tmp_path)
        # The first column of panels, without the legend at the bottom, which is wider with alarms.
        differs = (pixels(path) != without).any(axis=2)[:-100, :435]
        columns = np.flatnonzero(differs.sum(axis=0) > 30)
        assert 0 < len(columns) <= 4, "one upright mark"
        changed[at] = columns.mean()
    order = np.argsort(shown["series"]["last_ts"]).tolist()
    assert (changed[1] < changed[count - 2]) == (order.index(1) < order.index(count - 2))


def test_what_is_not_known_leaves_a_gap(shown: dict[str, Any], tmp_path: Path) -> None:
    nothing = [None, None, None]
    lines = [dict(line) for line in shown["series"]["lines"]]
    for line in lines:
        line["auc"] = [nothing] * len(line["auc"])
        # One point alone, between gaps; and points without an interval.
        line["ne"] = [[0.9, 0.8, 1.0] if at == 2 else nothing for at in range(len(line["ne"]))]
        line["calibration"] = [[value, None, None] for value, _, _ in line["calibration"]]
    last_ts = [0, *shown["series"]["last_ts"][1:]]
    gaps = {**with_series(shown, lines=lines, last_ts=last_ts), "nth": None}
    names = [path.name for path in draw_pictures(gaps, tmp_path)]
    assert names == ["cohorts-calibration.png", "cohorts-ne.png", "weights.png", "summary.png"]


def test_a_run_without_samples_has_no_pictures(tmp_path: Path) -> None:
    assert draw_pictures(View(load_settings(environment={})).show([]), tmp_path) == []
