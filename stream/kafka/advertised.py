"""Whether the addresses that brokers give of themselves can be reached: they need not be those at which they answer.

A client asks `kafka.url` which brokers there are, and talks to the addresses that it is told (`advertised.listeners`).
A Kafka in a container tells its own name there, which only other containers know.
"""

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

_TIMEOUT_S = 4.0
_AT_ONCE = 16


def advertised_problem(brokers: Iterable[tuple[str, int]]) -> str:
    """What is wrong with the addresses that brokers advertise; empty if they will do.

    A name that cannot be resolved is wrong whatever the others do. Of brokers that do not answer, one that does is
    enough.

    >>> "kafka.invalid:9092, which this machine cannot resolve" in advertised_problem([("kafka.invalid", 9092)])
    True
    """
    known = sorted(set(brokers))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(_unreachable, known))
    unresolved = [where for where, why in zip(known, found, strict=True) if isinstance(why, socket.gaierror)]
    if unresolved:
        return _said(unresolved, "which this machine cannot resolve")
    if known and all(found):
        return _said(known, f"where nothing answers from here ({found[0]})")
    return ""


def _said(where: list[tuple[str, int]], why: str) -> str:
    addresses = ", ".join(f"{host}:{port}" for host, port in where)
    return (
        f"the broker answers, but advertises {addresses}, {why}; correct the broker's advertised.listeners, or make "
        f"that name and port reachable (as by an entry for {where[0][0]} in /etc/hosts)"
    )


def _unreachable(where: tuple[str, int]) -> OSError | None:
    try:
        socket.create_connection(where, _TIMEOUT_S).close()
    except (OSError, UnicodeError) as exc:
        return exc if isinstance(exc, OSError) else socket.gaierror(str(exc))
    return None
