"""What processes load: no more than what they do needs, as every start waits for it, and every process holds it."""

import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "polars", "faust", "aiohttp", "matplotlib", "redis", "kafka"}

ROLES = """
import stream.ingest.app, stream.monitor.role, stream.serving.role, stream.training.group.start
"""

TRAIN_AND_SERVE = """
from pathlib import Path

from support.serving import some_samples

from learner.checkpoints.folder import read_latest, write_checkpoint
from learner.learner import Learner
from learner.snapshot import ServingModel, encode_snapshot
from stream.settings import load_settings

settings = load_settings(environment={{}}, overrides=["model.deep={deep}"])
learner = Learner(settings.recipe)
learner.warm_up()
learner.learn(some_samples(settings, 100, seed=1))
arrays, meta = learner.take_changes(whole=True)
write_checkpoint(Path({folder!r}), 1, arrays, meta)
again = Learner(settings.recipe)
again.restore(read_latest(Path({folder!r})).arrays, meta)
model = ServingModel(settings.recipe)
model.load(encode_snapshot(again, None))
model.predict(some_samples(settings, 20, seed=2))
"""


def loaded_by(code: str) -> set[str]:
    """Packages that a process has loaded behind some code."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_command_line_answers_without_any_of_the_large_libraries() -> None:
    assert HEAVY & loaded_by("from stream.command.cli import build\nbuild()") == set()


def test_no_role_loads_pytorch_before_it_knows_of_a_deep_part() -> None:
    assert HEAVY - loaded_by(ROLES) == {"torch", "matplotlib"}


@pytest.mark.parametrize("deep", ["none", "fm"])
def test_a_model_is_learned_kept_and_served_with_pytorch_where_it_has_a_deep_part(deep: str, tmp_path) -> None:
    loaded = loaded_by(TRAIN_AND_SERVE.format(deep=deep, folder=str(tmp_path)))
    assert ("torch" in loaded) is (deep != "none")
