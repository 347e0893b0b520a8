"""Fault injection, the short version of `coldstream chaos`."""

from pathlib import Path

import msgspec
import pytest

from simulators import movielens, synthetic
from simulators.chaos import Chaos, ChaosSettings
from simulators.replay import ReplaySettings
from stream.settings import Settings
from stream.topics import ensure_topics


@pytest.mark.slow
def test_whatever_is_killed_the_totals_are_those_of_an_offline_pass(
    settings: Settings, broker: str, tmp_path: Path
) -> None:
    live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=broker))
    ensure_topics(live.kafka)
    try:
        data = movielens.load()
    except movielens.DataError:
        data = synthetic.generate(10_000, seed=1)
    chaos = Chaos(live, data, ReplaySettings(num_ratings=10_000), ChaosSettings(kills=5, seed=11), tmp_path)
    report = chaos.run()
    assert report["equal"], (report["checks"], report["totals"], report["count_differences"])
    assert report["kills"] >= 5
