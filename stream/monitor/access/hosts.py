"""Who may ask the monitor for figures: requests for its own name only, and with its token if it has one.

A browser that shows somebody's page can be led to ask 127.0.0.1 under that page's name (DNS rebinding): the name in the
request's Host header tells. An address in numbers cannot be rebound, so where the monitor listens beyond loopback, any
is its own, as is this machine's name.
"""

import hmac
import socket
from ipaddress import ip_address

from stream.sections import MonitorSettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether an address that is bound to is reached from this machine only.

    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def page_url(settings: MonitorSettings) -> str:
    """Address of the page.

    >>> page_url(MonitorSettings(host="::1"))
    'http://[::1]:8900/'
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}/"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Access:
    """The rules of one monitor.

    Args:
        settings: its host, further names, and token.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self._is_loopback = is_loopback(settings.host)
        names = {settings.host, *settings.hosts, *_LOOPBACK, *(() if self._is_loopback else _machine())}
        self._names = {name.lower().rstrip(".") for name in names}
        self._token = settings.token.encode()

    @property
    def names(self) -> list[str]:
        """The names under which it answers; addresses beyond loopback are not listed."""
        return sorted(self._names)

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this monitor, on whatever port.

        >>> access = Access(MonitorSettings(hosts=("shop.example",)))
        >>> [access.is_own(h) for h in ("localhost:8900", "[::1]", "Shop.Example:80", "evil.example", "10.0.0.1", "")]
        [True, True, True, False, False, False]
        """
        name = _without_port(host).lower().rstrip(".")
        return name in self._names or (not self._is_loopback and _is_address(name))

    def is_allowed(self, authorization: str) -> bool:
        """Whether an Authorization header carries the token, if there is one.

        >>> access = Access(MonitorSettings(token="t0ken"))
        >>> [access.is_allowed(value) for value in ("Bearer t0ken", "bearer t0ken", "Bearer other", "t0ken", "")]
        [True, True, False, False, False]
        """
        kind, _, given = authorization.partition(" ")
        # In a time that does not tell how much of it is right.
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        return not self._token or (kind.lower() == "bearer" and is_right)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _machine() -> tuple[str, ...]:
    return socket.gethostname(), socket.getfqdn()
