"""Which process of a group this is, and how it joins the others.

`coldstream learner --processes N` says it to those it starts by the variables by which torchrun says it to its own: so
both start the same.
"""

from collections.abc import Mapping

from learner.group.agreed import Place
from learner.group.refusals import refused
from learner.recipe import Recipe
from state_store.errors import OperatorError

_RANK, _SIZE, _LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
_MEETING = ("MASTER_ADDR", "MASTER_PORT")
LOST = 75
"""Exit status of a process that has lost its group: it is to be started anew (EX_TEMPFAIL of sysexits.h)."""


class GroupError(OperatorError):
    """A group of learners that cannot be."""


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Where this process is in its group; None if it is in none.

    Args:
        environment: all variables.

    Raises:
        GroupError: they say only a part of it, or what cannot be.

    >>> place_in({"HOME": "/"}) is place_in({"RANK": "0", "WORLD_SIZE": "1"}) is None
    True
    """
    if _RANK not in environment or _SIZE not in environment:
        return None
    try:
        rank, size = int(environment[_RANK]), int(environment[_SIZE])
    except ValueError:
        rank, size = -1, 0
    if not 0 <= rank < size:
        raise GroupError(
            f"environment {_RANK} is {environment[_RANK]!r} and {_SIZE} is {environment[_SIZE]!r}: the one must be a "
            "number from 0 to below the other. torchrun sets both; unset them to run one learner"
        )
    if size == 1:
        return None
    missing = [name for name in _MEETING if name not in environment]
    if missing:
        raise GroupError(
            f"environment {_SIZE} is {size}, and {', '.join(missing)} is not set, where the processes meet: start them "
            f"by torchrun, or by `coldstream learner --processes {size}`"
        )
    local_rank = environment.get(_LOCAL_RANK, str(rank))
    if not local_rank.isdecimal():
        raise GroupError(
            f"environment {_LOCAL_RANK} is {local_rank!r}: it must be this process' number among those on its machine, "
            "from 0 on. torchrun sets it; unset it to have it be that among all"
        )
    return Place(rank, size, local_rank=int(local_rank))


def check(recipe: Recipe) -> None:
    """Whether several processes can learn that.

    Raises:
        GroupError: they cannot.
    """
    why = refused(recipe)
    if why:
        raise GroupError(why)
