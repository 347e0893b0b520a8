"""Results in a folder: for each a JSON file, and beside it what was predicted for the test part.

A result is there when its JSON file is; it is written last. So a command that was killed goes on where it was.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
import numpy as np

from learner.files import write_whole
from state_store.errors import OperatorError

T = TypeVar("T")


class KeptError(OperatorError):
    """What is in a folder is not what was asked for."""


class Made(Protocol):
    """A result that says what it was made of."""

    @property
    def made(self) -> str:
        """Samples and settings, as JSON."""
        ...


M = TypeVar("M", bound=Made)


class Kept(Generic[T]):
    """A folder of results of one kind.

    Args:
        folder: where; made if it is not there.
        kind: of the results.
    """

    def __init__(self, folder: Path, kind: type[T]) -> None:
        self.folder, self._kind = folder, kind
        # Parts that a kill left are written over; others may be another process's, which works on the same folder.
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, name: str) -> T | None:
        """What was found under a name; None if it has not come to its end.

        Raises:
            KeptError: the file is of another kind.
        """
        path = self.path(name)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=self._kind)
        except msgspec.MsgspecError as exc:
            raise KeptError(
                f"{path} is not what this version writes ({exc}): remove it, or give another --out"
            ) from exc

    def keep(self, name: str, result: T, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a result and its arrays; whole or not at all."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
        write_whole(self.path(name).with_name(f"{name}.npz"), [buffer.getvalue()])
        write_whole(self.path(name), [msgspec.json.format(msgspec.json.encode(result), indent=1)])

    def array(self, name: str, of: str) -> np.ndarray:
        """One of the arrays kept with a result."""
        with np.load(self.path(name).with_name(f"{name}.npz")) as file:
            found: np.ndarray = file[of]
        return found

    def write(self, name: str, text: str) -> Path:
        """Write a report beside the results; returns its path."""
        path = self.folder / name
        write_whole(path, [text.encode()])
        return path

    def path(self, name: str) -> Path:
        """Of a result's file."""
        return self.folder / f"{name}.json"


def find_made(kept: Kept[M], name: str, made: str) -> M | None:
    """What was found under a name, made of these samples and settings; None if it has not come to its end.

    Raises:
        KeptError: it was made of others.
    """
    found = kept.find(name)
    if found is not None and found.made != made:
        raise KeptError(f"{kept.path(name)} was made of other samples or settings: remove it, or give another --out")
    return found


def plain_name(text: str) -> str:
    """A model's name as a part of a file's.

    >>> plain_name("fast + dcnv2, masks of user_id")
    'fast-dcnv2-masks-of-user_id'
    """
    return re.sub("[^a-z0-9_]+", "-", text.lower())


def differences(kept: msgspec.Struct, wanted: msgspec.Struct) -> str:
    """In what two settings of one kind differ, in words; empty if in nothing."""
    names = [name for name in wanted.__struct_fields__ if getattr(kept, name) != getattr(wanted, name)]
    return ", ".join(f"{name} {getattr(kept, name)} and not {getattr(wanted, name)}" for name in names)
