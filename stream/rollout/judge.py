"""The judge of a lineage: promotes weights that did no harm, and takes back those that did. No clock, no Redis."""

from collections.abc import Sequence

import msgspec

from state_store.rollout import Rollout
from state_store.weights import Manifest
from stream.rollout.decisions import promoted, reverted
from stream.rollout.trial import Trial, harm, is_doubted, new_trial, observe
from stream.sections import ServingSettings
from stream.served import ServedOutcomes

_NAME = "canary"


class Judge:
    """Weights change every second or two, so a version is not what is judged, but a lineage: all that is newer than the
    stable version. Whoever is in the canary share is served the newest, whichever that is. One trial is about all of
    them; when it has had its outcomes without harm, its candidate, which is older than they all, becomes stable. Where
    they speak for harm without showing it, the trial goes on: a new one would have to begin without them.

    Args:
        settings: the serving section.
        trial: where an earlier judge was.
    """

    def __init__(self, settings: ServingSettings, trial: Trial | None = None) -> None:
        self._settings = settings
        self.trial = trial

    def observe(self, outcomes: ServedOutcomes, now_ms: int) -> None:
        """Take a block of outcomes in; evidence knows no time."""
        if self.trial is not None:
            observe(self.trial, outcomes)

    def decide(self, rollout: Rollout, kept: Sequence[Manifest], newest: int, now_ms: int) -> Rollout:
        """What is to be decided now; the same rollout if nothing is. It changes nothing here: `follow` does.

        Args:
            rollout: what is decided so far.
            kept: versions that can be gone back to.
            newest: version published last.
            now_ms: wall clock.
        """
        if rollout.pinned or rollout.hold:
            return rollout
        versions = {manifest.version for manifest in kept}
        newest_kept, trial, before = max(versions, default=0), self.trial, rollout
        if not rollout.stable and newest_kept:
            rollout = promoted(rollout, newest_kept, "nothing to compare it with yet", _NAME, now_ms)
        elif trial is not None and trial.is_asked_by(rollout):
            found = harm(trial, self._settings.canary_alpha)
            if found is not None:
                return reverted(rollout, f"versions {trial.said}: {found}", _NAME, now_ms)
            if trial.num_outcomes >= self._settings.canary_outcomes and not is_doubted(trial):
                why = f"no harm in {trial.num_outcomes} outcomes of versions {trial.said}"
                rollout = promoted(rollout, trial.candidate, why, _NAME, now_ms)
        if rollout.candidate not in versions or rollout.candidate <= rollout.stable:
            # Kept from now on, as it is protected: labels may come long after many newer versions.
            candidate = newest_kept if newest_kept > rollout.stable else 0
            rollout = msgspec.structs.replace(rollout, candidate=candidate)
        if not rollout.since or (rollout.stable, rollout.candidate) != (before.stable, before.candidate):
            rollout = msgspec.structs.replace(rollout, since=newest if rollout.candidate else 0)
        return rollout

    def follow(self, rollout: Rollout) -> None:
        """Begin a trial where a decision asks for it."""
        if rollout.pinned or rollout.hold or not rollout.candidate:
            self.trial = None
        elif self.trial is None or not self.trial.is_asked_by(rollout):
            self.trial = new_trial(self._settings, rollout)
