"""A process of a group that is told what to do: it neither reads samples nor writes anything."""

from collections.abc import Callable

import msgspec
import torch

from learner.group.agreed import Command, Place
from learner.group.member import Member
from learner.group.wire import Wire
from learner.recipe import Recipe


def follow(wire: Wire, at: Callable[[str], None] = lambda _: None, device: torch.device | None = None) -> None:
    """Do what the leader says, until it says that it is enough.

    Args:
        wire: to the leader.
        at: is told what is about to be done, and what has been and is not answered yet, so that tests can die there.
        device: where its deep part computes; None: as `learner.device` says.

    Raises:
        GroupLostError: the leader, or another process, has ended.
    """
    member: Member | None = None
    while True:
        command, said = wire.hear()
        match command:
            case Command.STOP:
                wire.close()
                return
            case Command.BEGIN:
                # The former one's tables go before there are new ones.
                member = None
                recipe = msgspec.msgpack.decode(said, type=Recipe)
                torch.set_num_threads(recipe.learner.num_threads)
                member = Member(recipe, wire, device)
                member.learner.warm_up()
                wire.gather(b"")
            case _:
                assert member is not None
                name = Command(command).name.lower()
                at(f"group.before_{name}")
                answer = member.obey(command, said)
                at(f"group.after_{name}")
                wire.gather(answer)


def follow_at(rank: int, size: int, url: str) -> None:
    """Be process `rank` of a group of `size` that meets at `url`."""
    follow(Wire(Place(rank, size, url)))
