"""Vowpal Wabbit on the same samples: it predicts each, then learns it, in the same order.

Its features are the occurrences that our model has, by key.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.fast.layout import FieldGroup, group_of
from learner.samples.columns import Samples
from simulators.experiments.stream.figures import Said
from simulators.experiments.stream.recorded import Recording
from simulators.experiments.stream.rivals import said_of
from state_store.errors import OperatorError

VW = {"vw -q ui -q uc -q ai": ("ui", "uc", "ai"), "vw -q uc -q ai": ("uc", "ai")}
"""Name -> pairs of namespaces."""
_SPACES = {
    FieldGroup.USER: "u",
    FieldGroup.ATTRIBUTES: "a",
    FieldGroup.CONTEXT: "a",
    FieldGroup.ITEM: "i",
    FieldGroup.CONTENT: "c",
}
_BLOCK = 4096
_INSTALL_S = 300
# Its own learning rate, .5, beats .2 and 1 on MovieLens-1M's first 100,000 ratings (AUC .7665, .7594, .7628); so does
# leaving the weights of multi-valued fields out: it scales features itself (.7674 against .7665).
_VW_OPTIONS = "--loss_function logistic --link logistic -b 24 --no_stdin --quiet"
_RUN_VW = "import sys; from vowpalwabbit import Workspace; Workspace(sys.argv[1]).finish()"


class NotToBeHadError(OperatorError):
    """Vowpal Wabbit cannot be installed here, or does not run."""


def install_vw(folder: Path) -> Path:
    """An environment of its own, made by pip from whatever index is set up; returns its Python.

    Raises:
        NotToBeHadError: it cannot be installed.
    """
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        python = folder / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "vowpalwabbit"]
        subprocess.run(pip, check=True, capture_output=True, timeout=_INSTALL_S)
        subprocess.run([str(python), "-c", "import vowpalwabbit"], check=True, capture_output=True)
    except (subprocess.SubprocessError, OSError) as exc:
        said = getattr(exc, "stderr", None) or b""
        last = (said.decode(errors="replace").strip().splitlines() or [str(exc)])[-1]
        raise NotToBeHadError(f"Vowpal Wabbit is left out, as it cannot be installed ({last})") from exc
    return python


def write_vw(recording: Recording, path: Path) -> None:
    """Samples in Vowpal Wabbit's text form; those without a label to learn have none, and are predicted only."""
    fields = recording.settings.fields
    spaces = [_SPACES[group_of(field)] for field in fields]
    plan = plan_of(recording.settings.recipe.layout)
    with path.open("w", encoding="ascii") as file:
        for samples in recording.blocks(_BLOCK):
            occurrences = occurrences_of(samples, plan)
            names = [f" k{key:x}" for key in occurrences.keys_N.tolist()]
            in_space = [spaces[f] for f in occurrences.fields_N.tolist()]
            bounds = occurrences.offsets_B1.tolist()
            for b, label in enumerate(_vw_labels(samples)):
                parts: dict[str, list[str]] = {}
                for n in range(bounds[b], bounds[b + 1]):
                    parts.setdefault(in_space[n], []).append(names[n])
                file.write(label + "".join(f"|{space}{''.join(of)} " for space, of in parts.items()) + "\n")


def _vw_labels(samples: Samples) -> Iterator[str]:
    for label, is_learned in zip(samples.rows_B["label"].tolist(), samples.is_labelled.tolist(), strict=True):
        yield ("1 " if label else "-1 ") if is_learned else ""


def run_vw(python: Path, written: Path, pairs: tuple[str, ...], num_samples: int) -> tuple[Said, float]:
    """Learn what was written; returns what was said of each sample before, and samples/s, reading them included.

    Args:
        python: of the environment that has it.
        written: as of `write_vw`.
        pairs: namespaces that are crossed.
        num_samples: T.

    Raises:
        NotToBeHadError: it ended with an error, or left predictions out.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "predictions"
        crossed = " ".join(f"-q {pair}" for pair in pairs)
        began = time.perf_counter()
        arguments = f"{_VW_OPTIONS} {crossed} -d {written} -p {said}"
        done = subprocess.run([str(python), "-c", _RUN_VW, arguments], check=False, capture_output=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
            raise NotToBeHadError(f"Vowpal Wabbit ended with status {done.returncode} ({last})")
        predictions = [float(line.split()[0]) for line in said.read_text(encoding="ascii").splitlines() if line]
    if len(predictions) != num_samples:
        raise NotToBeHadError(f"Vowpal Wabbit predicted {len(predictions)} of {num_samples} samples")
    return said_of(np.array(predictions)), len(predictions) / seconds
