"""What training runs found, and where it is kept."""

from pathlib import Path

import msgspec
import numpy as np

from simulators.experiments.kept import Kept, KeptError, differences
from simulators.experiments.offline.settings import RunSettings


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
        self._kept = Kept(folder, RunResult)
        self.write = self._kept.write

    def find(self, run: RunSettings) -> RunResult | None:
        """What was found of a run; None if it has not come to its end.

        Raises:
            KeptError: the folder has it with other settings.
        """
        found = self._kept.find(run.name)
        if found is not None and found.run != run:
            path, said = self._kept.path(run.name), differences(found.run, run)
            raise KeptError(f"{path} was made with {said}: remove it, or give another --out")
        return found

    def predictions(self, run: RunSettings) -> np.ndarray:
        """What it predicted for the test part at its best epoch: probabilities, float32."""
        return self._kept.array(run.name, "predictions")

    def keep(self, result: RunResult, predictions_N: np.ndarray) -> None:
        """Write a run; whole or not at all."""
        self._kept.keep(result.run.name, result, {"predictions": predictions_N.astype(np.float32)})


def finite(value: float) -> float | None:
    """A number as JSON has it: None for one that is none."""
    return value if np.isfinite(value) else None
