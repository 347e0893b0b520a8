"""What a test says of itself while it runs: a file in its run folder, which the monitor's page shows."""

from pathlib import Path
from typing import Any

import msgspec

from learner.files import write_whole
from simulators.abtest.verdict import Verdict, as_json, labelled, pooled_of
from stream.monitor.history.abtest import PROGRESS


class Progress:
    """Writes the file anew each day of a world.

    Args:
        folder: of the run.
        title: which arms.
        num_worlds: that will be run.
        num_days: of the test, in each.
    """

    def __init__(self, folder: Path, title: str, num_worlds: int, num_days: int) -> None:
        self._path = folder / PROGRESS
        self._title, self._num_worlds, self._num_days = title, num_worlds, num_days
        self._by_day: list[list[Verdict]] = [[] for _ in range(num_days)]
        self._newest: dict[int, Verdict] = {}

    def told(self, seed: int, day: int, verdict: Verdict | None) -> None:
        """Take in what can be said after a day.

        Args:
            seed: of the world.
            day: of the test, from 1; 0 and less before it.
            verdict: None before the test.
        """
        if verdict is not None:
            self._by_day[day - 1].append(verdict)
            self._newest[seed] = verdict
        done = {
            "title": self._title,
            "worlds": self._num_worlds,
            "world": len(self._newest) + (verdict is None),
            "seed": seed,
            "day": day,
            "days": self._num_days,
            "by_day": [
                {"day": number, "worlds": len(of), **as_json({"all": pooled_of(of)["all"]})}
                for number, of in enumerate(self._by_day, start=1)
                if of
            ],
            **self._so_far(),
        }
        write_whole(self._path, [msgspec.json.encode(done)])

    def _so_far(self) -> dict[str, Any]:
        """Of the worlds' newest days, and what each metric is called, with its unit."""
        if not self._newest:
            return {}
        pooled = pooled_of(list(self._newest.values()))
        return {**as_json(pooled), "labels": {metric: labelled(metric) for metric in pooled["all"]}}
