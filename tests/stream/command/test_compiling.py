"""`coldstream compile`: what it has compiled no role compiles again."""

import gc
import json
import subprocess
import sys

import numba
import pytest
from support.alone import check_alone

from learner.tables import compiled as cache
from state_store.errors import OperatorError
from stream.command.compiling import compiled, kept_in
from stream.settings import load_settings

_OVERRIDES = ["model.deep=dcnv2"]


def check() -> None:
    """In a new process everything is loaded, and nothing compiled."""
    took_s = compiled(load_settings(environment={}, overrides=_OVERRIDES))
    assert list(took_s) == ["learner and scorers", "workers"]
    stats = [each.stats for each in gc.get_objects() if isinstance(each, numba.core.dispatcher.Dispatcher)]
    assert sum(len(each.cache_hits) for each in stats) > 40
    assert [each for each in stats if each.cache_misses] == []


@pytest.mark.slow
def test_what_was_compiled_is_loaded_from_then_on() -> None:
    command = [sys.executable, "-m", "stream.command.cli", "compile", "--json", "--set", *_OVERRIDES]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)
    assert list(said["seconds"]) == ["learner and scorers", "workers"]
    assert said["folder"] == str(kept_in())
    check_alone(__name__, "check()")


def test_workers_that_join_by_the_script_have_nothing_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.parts.warm_up", lambda recipe: 0.0)
    settings = load_settings(environment={}, overrides=["worker.join=script"])
    assert list(compiled(settings)) == ["learner and scorers"]


def test_code_that_can_be_kept_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    with pytest.raises(OperatorError, match=r"kept beside the package or in .*; set NUMBA_CACHE_DIR"):
        kept_in()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/nowhere")
    with pytest.raises(OperatorError, match=r"kept in /nowhere \(NUMBA_CACHE_DIR\), which cannot be written to"):
        kept_in()
