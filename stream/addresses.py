"""Addresses as people write them: of a broker, one or several; of the page."""

import re
from ipaddress import AddressValueError, IPv6Address

DEFAULT_PORT = 9092
"""Kafka's own, where an address names none."""

_SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def kafka_servers(text: str, security: str) -> str:
    """The brokers' addresses as every client takes them, `HOST:PORT[,HOST:PORT]`.

    Spaces may stand around each, and a slash behind; the port is 9092 where there is none.

    Args:
        text: as given.
        security: `kafka.security`.

    Raises:
        ValueError: one cannot be used; says what to write.

    >>> kafka_servers("a:1/, b,[::1]:9093", "PLAINTEXT")
    'a:1,b:9092,[::1]:9093'
    """
    given = [part for piece in text.split(",") if (part := piece.strip())]
    if text and not given:
        raise ValueError(f"kafka.url {text!r}: it names no broker; give HOST:PORT[,HOST:PORT]")
    return ",".join(_server(part, security) for part in given)


def _server(given: str, security: str) -> str:
    scheme, found, place = given.rpartition("://")
    if "@" in place:
        raise ValueError(
            "kafka.url: it holds a user name or password; give them as kafka.username and kafka.password, with "
            "kafka.security=SASL_SSL, and HOST:PORT alone here"
        )
    if found and scheme.upper() in _SECURITY and scheme.upper() != security:
        raise ValueError(
            f"kafka.url {given!r}: give HOST:PORT without {scheme}://, and kafka.security={scheme.upper()} if that is "
            f"meant (it is {security})"
        )
    if found:
        raise ValueError(f"kafka.url {given!r}: give HOST:PORT[,HOST:PORT] without {scheme}://")
    host, port = _host_and_port(place.rstrip("/"), given)
    return f"{host}:{port}"


def _host_and_port(place: str, given: str) -> tuple[str, int]:
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
        if not closed or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise ValueError(f"kafka.url {given!r}: an IPv6 address stands as [ADDRESS]:PORT")
        host, port = f"[{host}]", rest[1:] if rest else str(DEFAULT_PORT)
    elif place.count(":") > 1:
        raise ValueError(f"kafka.url {given!r}: an IPv6 address stands as [ADDRESS]:PORT; several brokers, with commas")
    else:
        host, colon, port = place.partition(":")
        port = port if colon else str(DEFAULT_PORT)
        if not _HOST.fullmatch(host):
            raise ValueError(f"kafka.url {given!r}: {host!r} is no host's name; give HOST:PORT[,HOST:PORT]")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise ValueError(f"kafka.url {given!r}: its port is to be a number from 1 to 65535, got {port!r}")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def split_server(server: str) -> tuple[str, int]:
    """Host, without brackets, and port of one of `kafka_servers`.

    >>> split_server("[::1]:9093")
    ('::1', 9093)
    """
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)
