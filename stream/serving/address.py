"""Where the scorer is."""

from stream.sections import ServingSettings


def serving_url(settings: ServingSettings) -> str:
    """Address of the scorer.

    >>> serving_url(ServingSettings(host="::1"))
    'http://[::1]:8901/'
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http{'s' if settings.cert_file else ''}://{host}:{settings.port}/"
