"""Waiting times between attempts."""

_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def backoff_s(attempt: int) -> float:
    """Seconds to wait after failed attempt number `attempt`, counted from 0: growing, with a cap.

    >>> [backoff_s(n) for n in (0, 3, 100)]
    [0.1, 1.0, 5.0]
    """
    return _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
