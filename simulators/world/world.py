"""A world, step by step: who comes, what could be shown, what comes of what is shown.

Legend: V visits, C candidates, L places of a list, N impressions, O outcomes.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from simulators.world.items import NONE, ItemPool
from simulators.world.outcomes import Reactions, Truth, react, sigmoid, truth_of
from simulators.world.parameters import Candidates, Parameters
from simulators.world.users import UserPool

_DAY_MS = 86_400_000


class Visits(msgspec.Struct, frozen=True):
    """Users who ask for a list, by time."""

    number_V: np.ndarray
    """Unique; the first ever is 0."""
    slot_V: np.ndarray
    """Slots of the users, good until the next step."""
    ts_V: np.ndarray
    """Event time, ms, int64."""

    def __len__(self) -> int:
        return len(self.slot_V)

    def take(self, chosen: np.ndarray) -> "Visits":
        """Some of them: indices or a mask."""
        return Visits(self.number_V[chosen], self.slot_V[chosen], self.ts_V[chosen])


class Impressions(msgspec.Struct, frozen=True):
    """What was shown, visit by visit, and what comes of it; a world's slots are replaced by what is in them."""

    visit_N: np.ndarray
    position_N: np.ndarray
    ts_N: np.ndarray
    user_N: np.ndarray
    """Numbers of the users."""
    item_N: np.ndarray
    """Numbers of the items."""
    user_codes_NA: np.ndarray
    """Values of the attributes."""
    item_codes_NA: np.ndarray
    truth: Truth
    reactions: Reactions

    def __len__(self) -> int:
        return len(self.visit_N)


class World:
    """A world; the same for the same parameters, seed and lists shown.

    Args:
        parameters: of the world.
        seed: of all that is drawn.
    """

    def __init__(self, parameters: Parameters, seed: int) -> None:
        self.parameters = parameters
        streams = np.random.SeedSequence(seed).spawn(4)
        users, items, self._came, self._drawn = map(np.random.default_rng, streams)
        self.users, self.items = UserPool(parameters, users), ItemPool(parameters, items)
        self._step_ms = parameters.step_minutes * 60_000
        self._num_steps = self._num_visits = 0

    @property
    def now_ms(self) -> int:
        """Event time at which the next step begins."""
        return self.parameters.begin_ms + self._num_steps * self._step_ms

    def step(self) -> Visits:
        """Go on by a step; returns who comes in it."""
        days = self._step_ms / _DAY_MS
        day = self._num_steps * days
        if self._num_steps and int(day) > int(day - days):
            since = 1.0 if days < 1 else days
            drift = 1 - (1 - self.parameters.taste.drift) ** since
            self.users.tastes.drift(drift)
        arrived = self.users.turn_over(days) if self._num_steps else np.zeros(0, np.int64)
        self.items.turn_over(day, days)
        wave = 1 - self.parameters.daily_wave * np.cos(2 * np.pi * (day + days / 2)) if days < 1 else 1.0
        slot_V = self.users.visits(days * wave, arrived)
        lists = self.parameters.lists
        latest_ms = self._step_ms - int(lists.size * lists.seconds * 1000)
        ts_V = self.now_ms + np.sort(self._came.integers(latest_ms, size=len(slot_V)))
        number_V = self._num_visits + np.arange(len(slot_V))
        self._num_visits += len(slot_V)
        self._num_steps += 1
        return Visits(number_V, self._came.permutation(slot_V), ts_V)

    def candidates(self, num_visits: int, number: int, how: Candidates) -> np.ndarray:
        """Slots of candidates, (V, C) int64, `NONE` in place of repetitions; good until the next step."""
        return self.items.candidates((num_visits, number), how, self._came)

    def appeal(self, users_N: np.ndarray, items_N: np.ndarray) -> np.ndarray:
        """Taste and quality of pairs of slots, (N,) float32."""
        of_users_ND, of_items_ND = self.users.tastes.vectors_ND[users_N], self.items.tastes.vectors_ND[items_N]
        taste = self.parameters.taste
        scale = np.float32(taste.scale / np.sqrt(taste.dim))
        appeal_N: np.ndarray = scale * np.einsum("nd,nd->n", of_users_ND, of_items_ND) + self.items.quality_I[items_N]
        return appeal_N

    def click(self, users_N: np.ndarray, items_N: np.ndarray) -> np.ndarray:
        """Probability of a click of pairs of slots where the item is looked at, (N,) float32."""
        outcome = self.parameters.outcomes[0]
        own_N = self.users.level_U[users_N] + self.items.own_IO[items_N, 0]
        return sigmoid(outcome.base + outcome.taste * self.appeal(users_N, items_N) + own_N)

    def show(self, visits: Visits, shown_VL: np.ndarray) -> Impressions:
        """Show lists; what comes of them is known at once, and happens later.

        Args:
            visits: of the last step.
            shown_VL: slots of items, best first, `NONE` where a list is shorter.
        """
        is_shown_VL = shown_VL != NONE
        place_N, column_N = np.nonzero(is_shown_VL)
        position_N = (np.cumsum(is_shown_VL, axis=1) - 1)[place_N, column_N]
        items_N, users_N = shown_VL[place_N, column_N], visits.slot_V[place_N]
        outcomes, lists = self.parameters.outcomes, self.parameters.lists
        own_NO = self.items.own_IO[items_N]
        own_N = self.users.level_U[users_N] + own_NO[:, 0]
        truth = truth_of(outcomes[0], lists, self.appeal(users_N, items_N), own_N, position_N)
        quality_V = np.bincount(place_N, truth.click_N, len(visits)) / np.maximum(is_shown_VL.sum(axis=1), 1)
        self.users.served(visits.slot_V, quality_V)
        return Impressions(
            visits.number_V[place_N],
            position_N,
            visits.ts_V[place_N] + (position_N * (lists.seconds * 1000)).astype(np.int64),
            self.users.serial_U[users_N],
            self.items.serial_I[items_N],
            self.users.tastes.codes_NA[users_N],
            self.items.tastes.codes_NA[items_N],
            truth,
            react(outcomes, truth, own_NO, self._drawn),
        )


def joined(parts: Sequence[Impressions]) -> Impressions:
    """One behind the other."""
    truths, reactions = [part.truth for part in parts], [part.reactions for part in parts]
    first = truths[0]
    return Impressions(
        **_joined(parts, [name for name in Impressions.__struct_fields__ if name not in ("truth", "reactions")]),
        truth=Truth(
            **_joined(truths, ["appeal_N", "click_N", "examined_N"]), accident=first.accident, noise=first.noise
        ),
        reactions=Reactions(**_joined(reactions, Reactions.__struct_fields__)),
    )


def _joined(parts: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
