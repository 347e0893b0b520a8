"""Somebody who looks at the monitor's page while a benchmark runs."""

import threading
import time
import urllib.request
from collections.abc import Callable

import numpy as np

from stream.sections import MonitorSettings

_LOOK_S = 0.1


class Viewer:
    """Has the page open: asks for what it asks for, as often, and looks a user up now and then.

    Args:
        settings: of the monitor, with its port.
        user: who is looked up.
        only_if: whether somebody looks now; time counts only while they do.
    """

    def __init__(self, settings: MonitorSettings, user: str, only_if: Callable[[], bool] = lambda: True) -> None:
        self._asks = {"api/health": 2.0, "api/view": 4.0, f"api/user?id={user}": 20.0}
        self._url = f"http://{settings.host}:{settings.port}/"
        self._only_if = only_if
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seconds: dict[str, list[float]] = {path: [] for path in self._asks}

    def _look(self) -> None:
        due, looked_s = dict.fromkeys(self._asks, 0.0), 0.0
        while not self._stop.wait(_LOOK_S):
            if not self._only_if():
                continue
            looked_s += _LOOK_S
            for path, every in self._asks.items():
                if looked_s >= due[path]:
                    due[path] = looked_s + every
                    self._ask(path)

    def _ask(self, path: str) -> None:
        started = time.perf_counter()
        try:
            with urllib.request.urlopen(self._url + path, timeout=30) as answer:
                answer.read()
        except OSError:
            # The monitor is not up yet, or no longer, or stopped; or nothing is known of the user.
            return
        self.seconds[path].append(time.perf_counter() - started)

    def __enter__(self) -> "Viewer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def latencies(self) -> dict[str, dict[str, float]]:
        """Milliseconds per question."""
        return {
            path.partition("?")[0]: {
                "answers": len(taken),
                "p50_ms": round(float(np.median(taken)) * 1000, 1),
                "max_ms": round(max(taken) * 1000, 1),
            }
            for path, taken in self.seconds.items()
            if taken
        }
