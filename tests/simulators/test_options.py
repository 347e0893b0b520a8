"""Groups of options: what the command line says by default is what the settings say."""

import inspect

import pytest
from rich.console import Console

from simulators.commands.options import DEFAULT_LOG, LogOptions, StreamOptions, UsageError, parse_time
from simulators.commands.replay import replay
from simulators.commands.runs import backtest, chaos, demo
from simulators.faults import FaultSettings
from simulators.logs.movielens import DataError
from simulators.replay import ReplaySettings


def test_the_defaults_of_options_are_those_of_the_settings() -> None:
    assert StreamOptions().settings() == ReplaySettings()


@pytest.mark.parametrize("command", [replay, demo, backtest, chaos])
def test_every_command_that_replays_has_the_same_options(command) -> None:
    options = inspect.signature(command).parameters
    assert {"log", "data", "begin", "end", "drift", "seed"} <= set(options)
    assert {name for name in FaultSettings.__struct_fields__ if not name.endswith("_s")} <= set(options)


def test_options_become_settings() -> None:
    options = StreamOptions(begin="2000-01-02", end="2000-01-03T00:00:00+01:00", late=0.1, skew=5, drift="10:0.5")
    how = options.settings(num_rows=3, rounds=0)
    assert (how.from_ms, how.to_ms) == (946_771_200_000, 946_854_000_000)
    assert (how.faults.late, how.faults.skew_s, how.faults.duplicates) == (0.1, 5, 0.01)
    assert (how.num_rows, how.rounds, how.drift_at, how.drift_share) == (3, 0, 10, 0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"malformed": -0.1}, ["--malformed -0.1", ">= 0"]),
        ({"jitter": -1.0}, ["--jitter -1.0"]),
        ({"burst_length": 0.0}, ["--burst", "0.0"]),
        ({"delay_median": 0.0}, ["--delay-median 0.0"]),
        ({"end": "soon"}, ["--to", "soon"]),
    ],
)
def test_an_option_out_of_bounds_is_named(options: dict[str, object], said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        StreamOptions(**options).settings()
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_year_is_no_number_of_milliseconds() -> None:
    assert parse_time("20000102", "--from") == parse_time("2000-01-02", "--from")


def test_a_log_out_of_reach_is_replaced_only_where_none_was_named(tmp_path) -> None:
    quiet = Console(quiet=True)
    with pytest.raises(DataError, match="--data"):
        LogOptions(data=tmp_path).open(1, 10, quiet)
    assert LogOptions("synthetic").open(1, 10, quiet).span()[0] == 10
    assert LogOptions().log == DEFAULT_LOG
