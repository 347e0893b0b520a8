"""Whether the address of a server of ours is free, and whose it is if not."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from state_store.errors import OperatorError
from stream.sections import MonitorSettings, ServingSettings

_LISTENING = "0A"


class PortTakenError(OperatorError):
    """An address cannot be bound."""


def need_port(settings: MonitorSettings | ServingSettings) -> None:
    """Check that the page's or the scorer's address can be bound.

    Raises:
        PortTakenError: it cannot; says whose it is, as far as this user may know.
    """
    hold_port(settings).close()


def hold_port(settings: MonitorSettings | ServingSettings) -> socket.socket:
    """Take the address, for as long as the socket lives, in a way that servers of this user may still listen there.

    They share the port (SO_REUSEPORT), so that several processes answer on it; nobody else finds it free, not even for
    a moment.

    Raises:
        PortTakenError: it cannot be bound.
    """
    held = None
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(address)
        # Only now: whoever binds as it was bound is refused, whoever shares is not.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as exc:
        if held is not None:
            held.close()
        raise taken(settings, exc) from exc
    return held


def taken(settings: MonitorSettings | ServingSettings, exc: OSError) -> PortTakenError:
    """The error of an address that could not be bound."""
    owner = owner_of(settings.port)
    whose = f"; process {owner} listens there" if owner else ""
    section = "monitor" if isinstance(settings, MonitorSettings) else "serving"
    return PortTakenError(
        f"{section}.host {settings.host!r}, {section}.port {settings.port}: cannot be bound "
        f"({os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc}){whose}; set another, as in "
        f"--set {section}.port=8911, or end that process"
    )


def owner_of(port: int) -> str:
    """Number and name of the process that listens on a TCP port; empty if it cannot be told. Linux only."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    if not sockets:
        return ""
    for folder in Path("/proc").glob("[0-9]*"):
        # Processes end while they are looked at, and those of other users are not to be looked at.
        with suppress(OSError):
            if any(os.readlink(handle) in sockets for handle in (folder / "fd").iterdir()):
                name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{folder.name} ({name})"
    return ""


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                cells = line.split()
                if cells[3] == _LISTENING and int(cells[1].rpartition(":")[2], 16) == port:
                    found.add(cells[9])
    return found
