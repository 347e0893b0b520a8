"""Who is served which weights: the newest, the stable ones of the canary's others, those of the arms.

Each holds its tables twice, as two models take turns. Who loads them and who reads them may be different processes, so
what a request gets follows from the weights that are in use, and from nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import msgspec
import redis

from state_store.weights import Manifest, WeightsError, WeightStore
from stream.arms.settings import LIVE, ArmSettings
from stream.rollout.assignment import place_of
from stream.sections import ServingSettings
from stream.serving.turns.local import Turns
from stream.serving.versions import Versions
from stream.settings import Settings

NEWEST, STABLE = "weights", "stable weights"


class Choice(msgspec.Struct, frozen=True):
    """What a user is served."""

    arm: str
    canary: bool
    served: Versions
    beside: Versions | None = None
    """Scores along: the stable weights for a canary user, a mirrored arm's for a user of that arm."""


def names_of(serving: ServingSettings) -> list[str]:
    """Names of all weights that are held."""
    return [NEWEST, *([STABLE] if serving.canary_share else []), *map(_name, serving.arms)]


def _name(arm: ArmSettings) -> str:
    return f"arm {arm.name}"


class Lineup:
    """Weights in use, and who gets which.

    Args:
        settings: effective settings.
        client: Redis.
        turns: the models by the names of their weights, where processes share them.
    """

    def __init__(self, settings: Settings, client: redis.Redis, turns: Mapping[str, Turns] | None = None) -> None:
        self._serving = settings.serving
        self.weights = WeightStore(client, settings.redis.prefix)
        self.rollouts = self.weights.rollouts
        shared = turns or {}
        self._arms = {arm.name: arm for arm in self._serving.arms}
        self._stores = {
            _name(arm): WeightStore(client, arm.prefix) if arm.prefix else self.weights for arm in self._serving.arms
        }
        self._held = {
            name: Versions(self._stores.get(name, self.weights), settings.recipe, shared.get(name))
            for name in names_of(self._serving)
        }
        self.newest = self._held[NEWEST]
        """The newest, or those that are pinned."""
        self._stable = self._held.get(STABLE)

    # Requests -----------------------------------------------------------------------------------------------------

    def choose(self, user_id: str) -> Choice:
        """What a user is served now. Whoever has an arm without weights is served as if there were no such arm."""
        place, default = place_of(self._serving, user_id), self._stable
        if default is None or default.manifest is None:
            default = self.newest
        if place.arm is not None:
            own = self._held[_name(place.arm)]
            if own.manifest is None:
                return Choice(LIVE, False, default)
            if place.arm.mirror:
                return Choice(place.arm.name, False, default, own)
            return Choice(place.arm.name, False, own)
        # There is nothing to compare while both are the same, as where a version is pinned.
        if place.canary and default is not self.newest and _version(default) != _version(self.newest):
            return Choice(LIVE, True, self.newest, default)
        return Choice(LIVE, False, default)

    @property
    def stable(self) -> int:
        """Version of the stable weights in use; 0 without."""
        return _version(self._stable) if self._stable is not None else 0

    def arms(self) -> dict[str, int]:
        """Version of each arm's weights in use; 0 where there are none."""
        return {name: _version(self._held[_name(arm)]) for name, arm in self._arms.items()}

    def look(self) -> None:
        """See what is decided, for whoever asks; who loads may be another process."""
        self.newest.rollout = self.rollouts.read()

    # Loading, in a thread or a process of its own -----------------------------------------------------------------

    def steps(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What is to be done every so often, each for itself, by its name."""
        yield NEWEST, self.newest.refresh
        if self._stable is not None:
            yield STABLE, partial(self._follow_stable, self._stable)
        for arm in self._serving.arms:
            yield _name(arm), partial(self._follow_arm, arm)

    def _follow_stable(self, stable: Versions) -> None:
        """The stable version, or the pinned one; until there is one, the newest is for everybody."""
        rollout = self.rollouts.read()
        wanted = rollout.pinned or rollout.stable
        if wanted and wanted != _version(stable):
            stable.take(_kept(self.weights, wanted, "the stable one"))

    def _follow_arm(self, arm: ArmSettings) -> None:
        versions, store = self._held[_name(arm)], self._stores[_name(arm)]
        if not arm.version:
            versions.refresh()
        elif versions.manifest is None:
            versions.take(_kept(store, arm.version, f"of arm {arm.name!r}"))
        if versions.manifest is None:
            raise WeightsError(
                f"arm {arm.name!r}: no weights are published under redis.prefix {arm.prefix!r}; its users are served "
                "as if there were no such arm"
            )


def _version(versions: Versions) -> int:
    manifest = versions.manifest
    return manifest.version if manifest is not None else 0


def _kept(store: WeightStore, version: int, said: str) -> Manifest:
    """A kept version.

    Raises:
        WeightsError: it is not kept.
    """
    kept = {manifest.version: manifest for manifest in store.kept()}
    if version not in kept:
        raise WeightsError(
            f"version {version}, {said}, is not kept; kept are {sorted(kept)}: its users are served others"
        )
    return kept[version]
