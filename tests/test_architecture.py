"""ARCHITECTURE.md names files; every one of them must be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:stream|learner|state_store|simulators|tests|docker)/[^`\s]*)`", text))
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_no_folder_is_a_heap_and_no_module_is_long() -> None:
    """At most a dozen modules in a folder, at most 300 lines in a module."""
    for package in ("stream", "learner", "state_store", "simulators"):
        modules = [path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
        for folder in {path.parent for path in modules}:
            assert sum(path.parent == folder for path in modules) <= 12, folder
        assert [str(p) for p in modules if len(p.read_text().splitlines()) > 300] == []
