from importlib.metadata import distribution, packages_distributions

import pytest


@pytest.mark.parametrize("package", ["stream", "learner", "state_store", "simulators"])
def test_generic_package_names_are_ours(package: str) -> None:
    """Other distributions install packages of the same names (stream-python has `stream`)."""
    __import__(package)
    owners = packages_distributions().get(package, ["coldstream"])
    assert set(owners) == {"coldstream"}


def test_every_command_is_installed() -> None:
    names = {e.name for e in distribution("coldstream").entry_points if e.group == "coldstream.commands"}
    assert names >= {
        "demo", "up", "worker", "learner", "replay", "backtest", "bench", "data", "topics", "settings", "doctor",
    }  # fmt: skip
