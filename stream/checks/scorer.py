"""Whether a scorer answers where the settings say, and whether it is ready."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException

import msgspec

from stream.checks.finding import Finding, degraded, ok
from stream.serving.address import serving_url
from stream.settings import Settings

_TIMEOUT_S = 2.0


class _Said(msgspec.Struct):
    ready: bool = False
    error: str = ""


def check_scorer(settings: Settings) -> Iterator[Finding]:
    """Ask `/readyz`; that none runs here is no fault, as it may run elsewhere."""
    url = serving_url(settings.serving)
    try:
        said = _ask(f"{url}readyz")
    except (OSError, HTTPException, msgspec.DecodeError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        if isinstance(reason, ConnectionRefusedError):
            yield ok("scorer", f"none answers at {url}; `coldstream serve` starts one")
        else:
            yield degraded(
                "scorer", f"what answers at {url} is no scorer ({reason}); see serving.host and serving.port"
            )
        return
    if said.ready:
        yield ok("scorer", f"ready at {url}")
    else:
        yield degraded("scorer", f"not ready at {url}: {said.error}")


def _ask(url: str) -> _Said:
    # It is asked whether it is there, and told nothing: its certificate may be for the name that others use.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=context) as answer:
            body = answer.read(1 << 16)
    except urllib.error.HTTPError as exc:
        body = exc.read(1 << 16)
    return msgspec.json.decode(body, type=_Said)
