"""The processes of a learner that is a group of them, and how one of them dies."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.process.children import children_of, variable_of
from stream.process.failpoints import GROUP_POINTS, LEARNER_POINTS

_STALLED_S = 60.0
_POLL_S = 0.05
_START_S = 20.0
"""What a group may take to be up."""
_STAYS_S = 0.5
"""A file that is half written for so long waits for something."""
_BESIDE = ("checkpoint.half_written", "merge.half_written")
"""Where the leader's writing hangs while another process dies."""
_MOST_PASSES, _MOST_HANGS = 3, 2
_MOST_EXCHANGES = 60
"""A group sends each other something whenever it does anything."""


def ranks_of(learner: Role) -> dict[int, int]:
    """Rank -> process id of those that run; none while the group starts anew."""
    return {rank: pid for rank, (pid, _) in _found(learner).items()}


def _found(learner: Role) -> dict[int, tuple[int, bool]]:
    """Rank -> process id, and whether it was started with a failpoint."""
    found: dict[int, tuple[int, bool]] = {}
    for child in children_of(learner.pid):
        # It may have ended meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            rank = variable_of(child, "RANK")
            if rank is not None:
                found[int(rank)] = child, variable_of(child, FAILPOINT) is not None
    return found


def writer_of(learner: Role, processes: int) -> int:
    """Process id of who writes the run folder: the learner itself, or the leader of a group."""
    return learner.pid if processes == 1 else _running(learner)[0]


def one_of(learner: Role, processes: int, rng: random.Random) -> int:
    """Process id of the learner, or of whichever process of a group."""
    return learner.pid if processes == 1 else rng.choice([pid for _, pid in sorted(_running(learner).items())])


def _running(learner: Role) -> dict[int, int]:
    wait_until(lambda: 0 in ranks_of(learner), "the learner's processes", [learner], stalled_after_s=_STALLED_S)
    return ranks_of(learner)


class GroupDeaths:
    """One process of a group dies at a time; whoever keeps the group together starts it anew.

    Args:
        learner: the group.
        checkpoints: folder of its checkpoints.
        rng: decides.
        feed: gives it a little more to learn; called again and again while a death is waited for.
        failpoint_share: share of the deaths in the middle of something; the others come at a random moment.
        last_wait_s: longest wait for that to come, once the group is up; after that one is killed at that moment.
    """

    def __init__(
        self,
        learner: Role,
        checkpoints: Path,
        rng: random.Random,
        feed: Callable[[], None],
        failpoint_share: float,
        last_wait_s: float,
    ) -> None:
        self._learner, self._checkpoints, self._rng, self._feed = learner, checkpoints, rng, feed
        self._failpoint_share, self._last_wait_s = failpoint_share, last_wait_s
        self._armed_at = 0.0

    def strike(self) -> str:
        """Have one process die; returns which, and where, in words."""
        if self._rng.random() >= self._failpoint_share:
            return self._kill()
        points, draw = self._rng.choice((LEARNER_POINTS, GROUP_POINTS, _BESIDE)), self._rng.randint
        point = self._rng.choice(points)
        if points is _BESIDE:
            return self.beside(point, draw(1, _MOST_HANGS))
        return self.at(point, draw(1, _MOST_EXCHANGES if point == "group.half_exchanged" else _MOST_PASSES))

    def _kill(self, *, but_leader: bool = False) -> str:
        """SIGKILL for one, whichever."""
        ranks = sorted(_running(self._learner).items())
        rank, pid = self._rng.choice(ranks[1:] if but_leader and len(ranks) > 1 else ranks)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return f"learner: rank {rank}"

    def at(self, point: str, passes: int) -> str:
        """Have whoever passes a point so often die of it; returns that, or who was killed as nobody did.

        The leader alone writes: segments, merges, uploads. The others die inside what all do together: an exchange,
        their part of a checkpoint or of a version.
        """
        self._arm(f"{point}:{passes}")
        # Those that are started anew have no failpoint any more.
        if self._comes(lambda: not any(is_armed for _, is_armed in _found(self._learner).values())):
            return f"learner: {point}"
        return self._kill()

    def beside(self, point: str, passes: int) -> str:
        """Have another one than the leader die, while that has half a segment on the disk and cannot go on with it."""
        self._arm(f"{point}:{passes}:hang")
        stays = self._comes(self._has_half_a_segment)
        died = self._kill(but_leader=True)
        return f"{died} beside half a segment" if stays else died

    def _arm(self, failpoint: str) -> None:
        self._learner.kill()
        self._armed_at = time.time()
        self._learner.start({FAILPOINT: failpoint})
        _running(self._learner)

    def _comes(self, done: Callable[[], bool]) -> bool:
        """Whether something comes in time; it may be that nothing is left to do that leads to it."""
        deadline = time.monotonic() + _START_S + self._last_wait_s
        while time.monotonic() < deadline:
            if ranks_of(self._learner) and done():
                return True
            self._feed()
            time.sleep(_POLL_S)
        return False

    def _has_half_a_segment(self) -> bool:
        before = self._half_written()
        if not before:
            return False
        time.sleep(_STAYS_S)
        return bool(before & self._half_written())

    def _half_written(self) -> set[str]:
        """Files; what an earlier death has left does not count."""
        found = set[str]()
        for path in self._checkpoints.glob("*.part"):
            # It may become whole meanwhile.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime > self._armed_at:
                    found.add(path.name)
        return found
