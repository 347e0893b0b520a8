"""What a scorer sees for itself of weights that do harm: scores that are no numbers, and scores that take long."""

import numpy as np

from stream.rollout.evidence import Bets
from stream.rollout.trial import HARMS
from stream.sections import ServingSettings

_OUGHT = 0.5
"""Share of the requests that may take longer than they should."""


class Watch:
    """Watches the newest weights beside the stable ones, on the requests that both score.

    Args:
        settings: the serving section. Each of `serving.workers` has a part of the error that is allowed.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._alpha = settings.canary_alpha / len(HARMS) / settings.workers
        self._times = settings.canary_slower
        self._stable = 0
        self._slower = Bets(tolerance=_OUGHT, bound=1.0)
        self.harm = ""
        """What was seen; empty: nothing."""

    def took(self, version: int, seconds: float, stable_version: int, stable_s: float) -> None:
        """Both have scored a request.

        Args:
            version: of the newest weights.
            seconds: that they took.
            stable_version: of the stable ones.
            stable_s: that those took.
        """
        if stable_version != self._stable:
            self._stable, self._slower, self.harm = stable_version, Bets(tolerance=_OUGHT, bound=1.0), ""
        self._slower.update(np.array([float(seconds > self._times * stable_s)]))
        if self._slower.says(self._alpha):
            self.harm = (
                f"version {version} takes more than {self._times:g} times as long as version {stable_version} "
                f"(serving.canary_slower), in {self._slower.mean:.0%} of {self._slower.num_values} requests"
            )

    def no_number(self, version: int) -> None:
        """A score was none: that is harm at once."""
        self.harm = f"version {version} gave a score that is no number"

    def forget(self) -> None:
        """What was seen has been told."""
        self._stable, self.harm = 0, ""
