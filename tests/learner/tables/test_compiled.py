"""Machine code's cache: where it is, and that nothing depends on it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

from learner.tables import compiled as compiled_module
from learner.tables.compiled import compiled, compiled_maker, first_writable

_RUN = """
import sys
import numpy as np
from learner.tables.compiled import cache_folder
from learner.tables.index import Index, find_many
print(Index().find_or_number(np.array([5, 5, 6], np.uint64)).tolist(), cache_folder())
"""


def run(script: str, cache: Path) -> str:
    """Its output in a process whose cache is a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_first_folder_that_can_be_written_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert first_writable([tmp_path / "file" / "a", Path("/dev/null/b"), tmp_path / "c" / "d"]) == tmp_path / "c" / "d"
    assert first_writable([tmp_path / "file" / "a"]) is None


@pytest.mark.slow
def test_without_a_folder_it_is_compiled_each_time() -> None:
    assert run(_RUN, Path("/dev/null/cache")) == "[1, 1, 2] None"


@pytest.mark.slow
def test_a_damaged_cache_is_passed_over(tmp_path: Path) -> None:
    assert run(_RUN, tmp_path) == run(_RUN, tmp_path)
    files = [path for path in tmp_path.rglob("*.nb?") if path.is_file()]
    assert files
    for n, path in enumerate(files):
        path.write_bytes(path.read_bytes()[: n % 40])
    assert run(_RUN, tmp_path).startswith("[1, 1, 2]")


@pytest.mark.slow
def test_a_full_disk_costs_the_cache_only(tmp_path: Path) -> None:
    # A limit on the size of files is met like a full disk: the writing fails.
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
    assert run(full + _RUN, tmp_path).startswith("[1, 1, 2]")
    assert not list(tmp_path.rglob("*.nbc"))


def _zeros(num: int) -> np.ndarray:
    return np.zeros(num)


def _twos(num: int) -> np.ndarray:
    return np.full(num, 2.0)


@pytest.mark.slow
def test_who_makes_arrays_must_say_so() -> None:
    # Nothing else counts references to arrays.
    assert compiled_maker(_twos)(2).tolist() == [2, 2]
    with pytest.raises(TypingError, match="array"):
        compiled(_zeros)(2)


@pytest.mark.slow
@pytest.mark.parametrize("imported", ["from learner.other.values import VALUE", "from learner.other import values"])
def test_what_was_compiled_with_another_modules_code_or_constant_is_compiled_anew_when_that_changes(
    tmp_path: Path, imported: str
) -> None:
    root = tmp_path / "project"
    tables, other, using = (root / "learner" / name for name in ("tables", "other", "using"))
    for folder in (root / "learner", tables, other, using):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (tables / "compiled.py").write_bytes(Path(str(compiled_module.__file__)).read_bytes())
    (using / "code.py").write_text(
        f"""
from learner.tables.compiled import compiled
{imported}
if "VALUE" not in globals():
    VALUE = values.VALUE
@compiled
def value():
    return VALUE
""",
        encoding="utf-8",
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(root)}
    said = []
    for value in (1, 1, 2):
        (other / "values.py").write_text(f"VALUE = {value}\n", encoding="utf-8")
        script = "from learner.using.code import value; print(value(), sum(value.stats.cache_hits.values()))"
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["1", "0"], ["1", "1"], ["2", "0"]]
