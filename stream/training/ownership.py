"""One learner per run folder, and one per pipeline: the second one waits for the first to end, or refuses."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import redis

from state_store.errors import OperatorError
from stream.process.folder_lock import FolderLock
from stream.process.weather import Weather
from stream.settings import Settings
from stream.training.lease import Lease, Owner, folder_id
from stream.training.steps import Steps

log = logging.getLogger("coldstream.learner")

_OPEN, _TAKE_OVER = "open", "take over"
_LOOK_S = 0.2


class LearnerRunsError(OperatorError):
    """Another learner is at work in the run folder, or under the prefix."""


class Ownership:
    """The lock on the run folder, then the lease in Redis. Until both are there, nothing of either is touched.

    Args:
        settings: effective settings.
        folder: run folder.
        weather: where it is told who is waited for.
        steps: wait for a disk or a Redis that refuses.
        asked_to_stop: whether the wait is to end.
    """

    def __init__(
        self, settings: Settings, folder: Path, weather: Weather, steps: Steps, asked_to_stop: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._weather = weather
        self._steps = steps
        self._asked_to_stop = asked_to_stop
        self._lock = FolderLock(folder)
        self._lease: Lease | None = None

    @property
    def has_folder(self) -> bool:
        """Whether the run folder is ours."""
        return self._lock.is_held

    def take_folder(self) -> bool:
        """Take the run folder; False if asked to stop before it was free.

        Raises:
            LearnerRunsError: another learner has it, and `publish.second` says not to wait.
            RunFolderError: it cannot be used.
        """

        def take() -> str:
            holder = self._lock.take()
            return "" if holder is None else f"run folder {self._folder} is in use by a learner, {holder}"

        if not self._wait_for(take):
            return False
        if not self._lock.is_sure:
            log.warning(
                "run folder %s lies on a filesystem without locks: see to it that only one learner has it", self._folder
            )
        return True

    def take_pipeline(self, client: redis.Redis) -> bool:
        """Take the pipeline; False if asked to stop before it was free.

        Raises:
            LearnerRunsError: another learner has it, and `publish.second` says not to wait.
        """
        prefix = self._settings.redis.prefix

        def take() -> str:
            if self._lease is None:
                self._lease = Lease(client, prefix, folder_id(self._folder))
            owner: Owner | None = self._lease.take(former_is_dead=self._lock.is_sure)
            return "" if owner is None else f"redis.prefix {prefix!r} has a learner with another run folder, {owner}"

        return self._wait_for(take)

    def _wait_for(self, take: Callable[[], str]) -> bool:
        said = ""

        def attempt() -> None:
            nonlocal said
            said = take()

        while self._steps.until(_OPEN, attempt, self._asked_to_stop):
            if not said:
                self._weather.passed(_TAKE_OVER)
                return True
            if self._settings.publish.second == "refuse":
                raise LearnerRunsError(
                    f"{said}; stop that one, or set publish.second=wait to take over when it ends. "
                    "One that was killed is forgotten after 10 s"
                )
            self._weather.failed(_TAKE_OVER, said)
            time.sleep(_LOOK_S)
        return False

    def check(self) -> None:
        """Whether this is the learner still.

        Raises:
            LostOwnershipError: another has taken over.
        """
        assert self._lease is not None
        self._lease.check()

    def release(self) -> None:
        """Let the next one begin."""
        if self._lease is not None:
            self._lease.release()
        self._lock.release()
