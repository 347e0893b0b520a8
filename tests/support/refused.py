"""What every experiment does with arguments that make no sense."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from simulators.commands.experiment import run
from state_store.errors import OperatorError


def check_refused(arguments: Sequence[str], said: Sequence[str], out: Path) -> None:
    """It says so, and leaves nothing behind.

    Args:
        arguments: of an experiment on MovieLens-1M.
        said: parts of the message.
        out: a folder that is not there.
    """
    with pytest.raises(OperatorError) as caught:
        run([*arguments, "--out", str(out)])
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert not out.exists()
