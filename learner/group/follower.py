"""A process of a group that is told what to do: it neither reads samples nor writes anything."""

import msgspec
import torch

from learner.group.agreed import Command, Place
from learner.group.member import Member
from learner.group.wire import Wire
from learner.recipe import Recipe


def follow(wire: Wire) -> None:
    """Do what the leader says, until it says that it is enough.

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
                member = Member(recipe, wire)
                member.learner.warm_up()
                wire.gather(b"")
            case _:
                assert member is not None
                wire.gather(member.obey(command, said))


def follow_at(rank: int, size: int, url: str) -> None:
    """Be process `rank` of a group of `size` that meets at `url`."""
    follow(Wire(Place(rank, size, url)))
