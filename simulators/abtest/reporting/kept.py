"""Worlds that were run, in a folder: a test that was stopped goes on behind them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from xxhash import xxh3_128_hexdigest

from learner.files import write_whole
from simulators.abtest.arm import Arm
from simulators.abtest.reporting.report import Run
from simulators.abtest.run import TrialSettings
from simulators.world.parameters import Parameters
from state_store.errors import OperatorError

_WHAT_TO_DO = "leave --resume out, or --name another run"


class KeptRunError(OperatorError):
    """A folder has a run of another test."""


class _Kept(msgspec.Struct, frozen=True):
    made: str
    run: Run


class KeptRuns:
    """Runs by the name of their world; each file is there whole or not at all.

    Args:
        folder: where; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, name: str, made: str) -> Run | None:
        """A world's run; None if none has come to its end.

        Args:
            name: of the world.
            made: of what, as `made_of` says.

        Raises:
            KeptRunError: it was made of another world, or other settings, or by another version.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except msgspec.MsgspecError as exc:
            raise KeptRunError(f"{path} is not what this version writes ({exc}): {_WHAT_TO_DO}") from exc
        if kept.made != made:
            raise KeptRunError(f"{path} was made with another world or other settings: {_WHAT_TO_DO}")
        return kept.run

    def keep(self, name: str, made: str, run: Run) -> None:
        """Write a world's run."""
        write_whole(self._path(name), [msgspec.json.encode(_Kept(made, run))])

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def made_of(parameters: Parameters, arms: Sequence[Arm], how: TrialSettings) -> str:
    """What a run is made of, as a hash: settings may have passwords.

    Args:
        parameters: of the world.
        arms: both.
        how: with the world's seed.
    """
    return xxh3_128_hexdigest(msgspec.json.encode((parameters, arms, how)))
