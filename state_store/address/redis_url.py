"""Where a Redis is, as a URL: what is taken, what is refused, and how it is shown.

What changes how answers are read, or how long they are waited for, is the pipeline's own: of the options that a URL may
have behind `?`, those are refused that redis-py would take for it (`decode_responses`, `socket_timeout`, ...).
"""

import re
from contextlib import suppress
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

HIDDEN = "***"
"""Stands where a secret was."""

_SCHEMES = ("redis://", "rediss://", "unix://")
_OPTIONS = ("db", "username", "password", "client_name")
_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_check_hostname")
_OTHERS = {
    "redis+tls": "write rediss:// for TLS",
    "redis+ssl": "write rediss:// for TLS",
    "tls": "write rediss:// for TLS",
    "redis+socket": "write unix:// for a socket file",
    "redis+unix": "write unix:// for a socket file",
    "sentinel": "Sentinel is not asked; give the primary's own address, redis://HOST:PORT/DB",
    "redis+sentinel": "Sentinel is not asked; give the primary's own address, redis://HOST:PORT/DB",
    "rediss+sentinel": "Sentinel is not asked; give the primary's own address, rediss://HOST:PORT/DB",
    "redis-sentinel": "Sentinel is not asked; give the primary's own address, redis://HOST:PORT/DB",
    "redis-cluster": "write redis:// and any node of the cluster",
    "redis+cluster": "write redis:// and any node of the cluster",
}
_FORM = "expected redis://[USER:PASSWORD@]HOST:PORT/DB, or rediss:// for TLS, or unix://PATH"
_ENCODE = "in a user name or password, percent-encode / as %2F, # as %23, ? as %3F, @ as %40, : as %3A, % as %25"
_NOTHING_SECRET = re.compile(r"(?:[A-Za-z][\w+.-]*:/{0,2})?[\w.-]*(?::\d{0,7})?(?:/[\w.-]*)?")
_PLACE = re.compile(r"[\w.\-:\[\]]*(?:/\d*)?")


def check_redis_url(url: str) -> None:
    """Check a URL; what is wrong with it is said without its password.

    Raises:
        ValueError: it cannot be used; says what to write.

    >>> check_redis_url("redis://:a/b@db:6379/0")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: redis.url 'redis://***@db:6379/0': in a user name or password, percent-encode / as %2F, ...
    """
    problem = _problem(url)
    if problem:
        raise ValueError(f"redis.url {masked_url(url)!r}: {problem}")


def masked_url(url: str) -> str:
    """The URL with its password hidden; of one that cannot be used, whatever may be one.

    >>> masked_url("redis://user:secret@db:6379/0")
    'redis://user:***@db:6379/0'
    >>> masked_url("redis://db:6379?username=u&password=secret")
    'redis://db:6379?username=u&password=***'
    >>> masked_url("redis://:secret#x@db:6379/0")
    'redis://***@db:6379/0'
    """
    if not _problem(url):
        url = re.sub(r"^([a-z]+://[^/?#:@]*):[^/?#]*@", rf"\1:{HIDDEN}@", url)
        return re.sub(r"([?&]password=)[^&]*", rf"\1{HIDDEN}", url)
    if _NOTHING_SECRET.fullmatch(url):
        return url
    scheme = url.partition("://")[0] if re.match(r"[A-Za-z][\w+.-]*://", url) else ""
    place = url.rpartition("@")[2]
    shown = f"{HIDDEN}@{place}" if "@" in url and "password" not in url.lower() and _PLACE.fullmatch(place) else HIDDEN
    return f"{scheme}://{shown}" if scheme else shown


def passwords_in(url: str) -> set[str]:
    """The passwords of a URL, as they stand in it and as they are meant; also of one that cannot be used.

    >>> sorted(passwords_in("redis://u:a%2Fb@db?password=c"))
    ['a%2Fb', 'a/b', 'c']
    """
    behind = url.partition("://")[2]
    found = {behind.rpartition("@")[0].partition(":")[2]} if "@" in behind else set()
    found |= set(re.findall(r"[?&]password=([^&]*)", url))
    with suppress(ValueError):
        found.add(urlsplit(url).password or "")
    return {form for word in found if word for form in (word, unquote(word), quote(unquote(word), safe=""))}


def _problem(url: str) -> str:
    """Why a URL cannot be used; empty if it can."""
    scheme = url.partition("://")[0]
    if scheme.lower() in _OTHERS:
        return _OTHERS[scheme.lower()]
    if not url.startswith(_SCHEMES):
        return _FORM
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return f"it holds a space or a control character; {_FORM}"
    try:
        parts = urlsplit(url)
        is_unix = parts.scheme == "unix"
        place = _unix_problem(parts) if is_unix else _place_problem(parts)
        return place or _query_problem(parts)
    except ValueError:
        # A port that is no number or above 65535, a bracket that is not closed: what was said may hold the password.
        return _ENCODE if "@" in url else f"its host or port (1 to 65535) cannot be read; {_FORM}"


def _unix_problem(parts: SplitResult) -> str:
    return "" if parts.path.strip("/") and not parts.fragment else f"it names no socket file; {_FORM}"


def _place_problem(parts: SplitResult) -> str:
    path, behind = parts.path.removeprefix("/"), f"{parts.path}{parts.query}{parts.fragment}"
    if "@" in behind.partition("password=")[0] or parts.fragment:
        return _ENCODE
    if not parts.hostname:
        return f"it names no host; {_FORM}"
    if parts.port is not None and parts.port == 0:
        return "its port is 0; give one from 1 to 65535"
    if path and not re.fullmatch(r"\d{1,9}", path):
        return f"its database is to be a number, as in redis://HOST:PORT/0; {_FORM}"
    return ""


def _query_problem(parts: SplitResult) -> str:
    allowed = (*_OPTIONS, *_TLS_OPTIONS) if parts.scheme == "rediss" else _OPTIONS
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            said = f"option {name!r}" if re.fullmatch(r"[a-z_]{1,40}", name) else "an option"
            return (
                f"{said} behind its ? is not taken; allowed are {', '.join(allowed)}, and for time-outs redis.timeout_s"
                + (f"; {_ENCODE}" if "@" in parts.query else "")
            )
        if name == "db" and not re.fullmatch(r"\d{1,9}", value):
            return "its database is to be a number, as in ?db=0"
        if name == "ssl_cert_reqs" and value not in ("none", "optional", "required"):
            return "ssl_cert_reqs is to be none, optional or required"
        if name == "ssl_check_hostname" and value.lower() not in ("true", "false"):
            return "ssl_check_hostname is to be true or false"
    return ""
