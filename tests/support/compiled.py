"""How much of the compiled code has been compiled."""

from collections.abc import Iterable
from types import ModuleType

import numba


def num_compiled(modules: Iterable[ModuleType]) -> dict[str, int]:
    """Signatures of every compiled function of modules that is called from Python."""
    return {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    }
