"""The commands of a call that are few: written in Python, in the form of `stream/join/kernels/writes.py`."""

from collections.abc import Sequence
from struct import Struct

from stream.join.kernels.writes import ANY, MOST

_HEAD, _SIZE = Struct("<BBHB"), Struct("<I")


def command(which: int, key: int, arguments: Sequence[bytes], per: int = 1) -> bytes:
    """A command; nothing if it has no arguments, several if it has too many for one.

    Args:
        which: command.
        key: of which key.
        arguments: behind the key.
        per: how many of them belong together.
    """
    parts, most = [], MOST // per * per
    for begin in range(0, len(arguments), most):
        some = arguments[begin : begin + most]
        parts.append(_HEAD.pack(which, key, len(some), ANY))
        for argument in some:
            parts.append(_SIZE.pack(len(argument)))
            parts.append(argument)
    return b"".join(parts)
