import subprocess
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

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
        "serve",
    }  # fmt: skip


def test_no_source_is_left_out_of_version_control_or_of_the_checks() -> None:
    """A pattern of .gitignore that is meant for the root must not hide a folder of ours: ruff goes by it, too."""
    root = Path(__file__).parents[1]
    packages = ("learner", "simulators", "state_store", "stream", "tests")
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    asked = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *packages]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [name for name in found if "__pycache__" not in name] == []


def test_every_folder_with_modules_is_a_package() -> None:
    root = Path(__file__).parents[1]
    for package in ("learner", "simulators", "state_store", "stream"):
        folders = {path.parent for path in (root / package).rglob("*.py")}
        assert sorted(str(f) for f in folders if not (f / "__init__.py").is_file()) == []
