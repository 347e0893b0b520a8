"""What a run found, in a folder: one JSON file for each, and beside it what it predicted for the test part.

A run is there when its JSON file is; it is written last. So a command that was killed goes on where it was.
"""

import io
from pathlib import Path

import msgspec
import numpy as np

from learner.files import forget_parts, write_whole
from simulators.experiments.offline.settings import ChoiceError, RunSettings


class Epoch(msgspec.Struct, frozen=True):
    """Figures behind one epoch."""

    train_loss: float | None
    """Mean of L = L_main + alpha L_aux over the epoch's batches; None if it is no number any more."""
    valid_auc: float
    valid_log_loss: float
    test_auc: float
    test_uauc: float | None
    """None where no user has labels of both kinds."""
    test_log_loss: float
    seconds: float


class RunResult(msgspec.Struct, frozen=True):
    """One run."""

    run: RunSettings
    epochs: list[Epoch]
    best: int
    """Number of the epoch with the best validation AUC, from 0."""
    num_parameters: int
    dropped: dict[str, float]
    """Share of fields that were missing -> AUC on the test part, at the best epoch."""
    seconds: float
    source: str
    device: str
    date: str
    versions: dict[str, str]

    @property
    def at_best(self) -> Epoch:
        """Figures of the best epoch."""
        return self.epochs[self.best]


class Results:
    """A folder of them.

    Args:
        folder: where; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        forget_parts(folder)

    def find(self, run: RunSettings) -> RunResult | None:
        """What was found of a run; None if it has not come to its end.

        Raises:
            ChoiceError: the folder has it with other settings.
        """
        path = self._path(run, ".json")
        if not path.exists():
            return None
        try:
            found = msgspec.json.decode(path.read_bytes(), type=RunResult)
        except msgspec.MsgspecError as exc:
            raise ChoiceError(
                f"{path} is not what this version writes ({exc}): remove it, or give another --out"
            ) from exc
        if found.run != run:
            said = ", ".join(
                f"{name} {getattr(found.run, name)} and not {getattr(run, name)}"
                for name in RunSettings.__struct_fields__
                if getattr(found.run, name) != getattr(run, name)
            )
            raise ChoiceError(f"{path} was made with {said}: remove it, or give another --out")
        return found

    def predictions(self, run: RunSettings) -> np.ndarray:
        """What it predicted for the test part at its best epoch: probabilities, float32."""
        with np.load(self._path(run, ".npz")) as file:
            found: np.ndarray = file["predictions"]
        return found

    def keep(self, result: RunResult, predictions_N: np.ndarray) -> None:
        """Write a run; whole or not at all."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, predictions=predictions_N.astype(np.float32))
        write_whole(self._path(result.run, ".npz"), [buffer.getvalue()])
        encoded = msgspec.json.format(msgspec.json.encode(result), indent=1)
        write_whole(self._path(result.run, ".json"), [encoded])

    def write(self, name: str, text: str) -> Path:
        """Write a report beside the runs; returns its path."""
        path = self.folder / name
        write_whole(path, [text.encode()])
        return path

    def _path(self, run: RunSettings, suffix: str) -> Path:
        return self.folder / f"{run.name}{suffix}"


def finite(value: float) -> float | None:
    """A number as JSON has it: None for one that is none."""
    return value if np.isfinite(value) else None
