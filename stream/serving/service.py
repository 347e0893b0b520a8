"""What the scorer does, without HTTP: scores, ranks, explains, and remembers what it said."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

from learner.targets import expected_by_task
from state_store.entities.packed import PackedState
from state_store.errors import OperatorError
from stream.partitioning import partition_of
from stream.rollout.watch import Watch
from stream.sections import interval_names
from stream.serving.clock import asked_ms
from stream.serving.forms import Alike, Answer, Explanation, Known, Missing, Scored, Share, WeightsInUse
from stream.serving.lineup.lineup import Lineup
from stream.serving.lineup.pair import Said, reading_both, say
from stream.serving.packing import Candidate, Packing
from stream.serving.state import StateReader
from stream.settings import Settings


class NotReadyError(OperatorError):
    """There are no weights yet."""


class TooManyError(OperatorError):
    """A request has more candidates than are allowed."""


class Request(msgspec.Struct, frozen=True):
    """What is scored."""

    user_id: str
    context: Mapping[str, Any]
    candidates: Sequence[Candidate]
    ts: int | None = None
    """When they would be shown, event time, ms; None: now (`stream/serving/clock.py`)."""


class Outcome(msgspec.Struct, frozen=True):
    """Scores of B candidates, and what they were made of."""

    said: Said
    state: PackedState
    at_ms: int
    """When they would be shown, event time."""
    degraded: bool
    missing: Missing
    by_task: dict[str, np.ndarray]
    """What is expected of every task, where all are learned."""


class Service:
    """Answers on an event loop.

    Args:
        settings: those of the learner that publishes.
        lineup: the weights, and who gets which.
        state: reads what is known of users and items.
    """

    def __init__(self, settings: Settings, lineup: Lineup, state: StateReader) -> None:
        self._settings = settings
        self.lineup = lineup
        self.versions = lineup.newest
        """The newest weights, or those that are pinned."""
        self._state = state
        self._packing = Packing(settings)
        self._edges = settings.monitor.user_impressions
        self._cohorts = interval_names(self._edges)
        self._count_names = settings.actions.counted
        self.task = settings.main_task.name
        self.num_degraded = 0
        self.watch = Watch(settings.serving)
        """Of the newest weights beside the stable ones."""
        self.num_scored = 0
        self.num_canary = 0
        self.is_warm = False
        """Whether whatever is compiled has been."""

    # Scores -------------------------------------------------------------------------------------------------------

    async def score(self, asked: Request) -> Answer:
        """Score candidates in the order in which they are asked for.

        Raises:
            NotReadyError: there are no weights.
            TooManyError: more candidates than `serving.max_candidates`.
            MalformedEventError: a feature is not of its field's kind.
        """
        found = await self.evaluate(asked)
        return self._answer(asked, found, range(len(asked.candidates)))

    async def rank(self, asked: Request, n: int) -> Answer:
        """The best n, best first; of equals, the one that was asked for first."""
        found = await self.evaluate(asked)
        # Of a score that is no number nothing is known: it goes last.
        order = np.argsort(-np.nan_to_num(found.said.scores.ranks_B, nan=-np.inf), kind="stable")[:n]
        return self._answer(asked, found, order.tolist())

    async def explain(self, asked: Request) -> Explanation:
        """Take the score of the one candidate apart."""
        found = await self.evaluate(asked, explain=True)
        now_ms = time.time_ns() // 1_000_000
        state, said = found.state, found.said
        version, scores = said.manifest.version, said.scores
        apart = said.apart
        shares = [Share(p.part, p.component, p.weight, p.component * p.weight) for p in apart.parts]
        user = self._known(state.user_counts_C, state.user_norm, state.user_norm_version, version)
        item = self._known(state.item_counts_BC[0], state.item_norm_B[0], int(state.item_norm_version_B[0]), version)
        ages = {
            "first_age_s": _age_s(found.at_ms, state.user_first_ts),
            "last_age_s": _age_s(found.at_ms, state.user_last_ts),
        }
        return Explanation(
            version=version,
            weights_age_s=max(0.0, (now_ms - said.manifest.created_ms) / 1000),
            degraded=found.degraded,
            cohort=self._cohort(state),
            probability=float(scores.predictions_B[0]),
            rank=float(scores.ranks_B[0]),
            logit=sum(share.adds for share in shares),
            parts=shares,
            user=msgspec.structs.replace(user, **ages),
            item=item,
            missing=found.missing,
            content_made=apart.stands_for is not None,
            alike=[Alike(*one) for one in zip(*apart.stands_for, strict=True)] if apart.stands_for else [],
            user_made=apart.user_made,
        )

    async def evaluate(self, asked: Request, *, explain: bool = False) -> Outcome:
        """Scores as arrays, all of the version that is in force when this begins."""
        limit, num_candidates = self._settings.serving.max_candidates, len(asked.candidates)
        if num_candidates > limit:
            raise TooManyError(f"{num_candidates} candidates, at most {limit} are allowed (serving.max_candidates)")
        columns = self._packing.columns(asked.context, asked.candidates)
        item_ids = [candidate.item_id for candidate in asked.candidates]
        choice = self.lineup.choose(asked.user_id)
        with reading_both(choice) as (served, beside):
            if served is None or not self.is_warm:
                raise NotReadyError("no weights are loaded yet; a learner publishes them")
            partition = partition_of(asked.user_id, self._settings.kafka.partitions)
            read = await self._state.read(partition, asked.user_id, item_ids)
            state = read if read is not None else self._state.nothing(num_candidates)
            at_ms = asked_ms(asked.ts, served.manifest, self._settings.join)
            samples = self._packing.samples(at_ms, asked.user_id, item_ids, columns, state)
            said = say(choice, (served, beside), samples, self.watch, explain=explain)
        self.num_degraded += read is None
        self.num_scored += num_candidates
        self.num_canary += said.canary
        missing = Missing(
            self._packing.missing(columns, num_candidates),
            read is not None and not state.user_counts_C.any(),
            int((~state.item_counts_BC.any(axis=1)).sum()) if read is not None else 0,
        )
        by_task: dict[str, np.ndarray] = {}
        if said.scores.predictions_BT is not None:
            by_task = expected_by_task(said.scores.predictions_BT, self._settings.recipe.tasks)
        return Outcome(said, state, at_ms, read is None, missing, by_task)

    def _answer(self, asked: Request, found: Outcome, order: Sequence[int]) -> Answer:
        request_id, candidates = uuid4().hex, asked.candidates
        said, beside_B = found.said, found.said.beside_B
        predictions, ranks = said.scores.predictions_B.tolist(), said.scores.ranks_B.tolist()
        others = beside_B.tolist() if beside_B is not None else [None] * len(candidates)
        tasks = {name: expected_B.tolist() for name, expected_B in found.by_task.items()}
        scores = [
            Scored(
                candidates[n].item_id,
                f"{request_id}-{n}",
                predictions[n],
                ranks[n],
                {name: expected[n] for name, expected in tasks.items()},
                others[n],
            )
            for n in order
        ]
        return Answer(
            version=said.manifest.version,
            variant=said.arm,
            canary=said.canary,
            other_version=said.beside_version,
            task=self.task,
            cohort=self._cohort(found.state) if not found.degraded else "",
            degraded=found.degraded,
            missing=found.missing,
            scores=scores,
        )

    def _cohort(self, state: PackedState) -> str:
        return self._cohorts[sum(bool(state.user_counts_C[0] >= edge) for edge in self._edges)]

    def _known(self, counts_C: np.ndarray, norm: float, norm_version: int, version: int) -> Known:
        counts = {name: int(count) for name, count in zip(self._count_names, counts_C.tolist(), strict=True)}
        behind = max(0, version - norm_version) if norm_version else 0
        return Known(counts=counts, norm=float(norm), norm_version=norm_version, norm_versions_behind=behind)

    # Weights ------------------------------------------------------------------------------------------------------

    def weights(self) -> WeightsInUse:
        """The weights in use.

        Raises:
            NotReadyError: there are none.
        """
        manifest = self.versions.manifest
        if manifest is None:
            raise NotReadyError(f"no weights are loaded yet; {self.versions.refused or 'a learner publishes them'}")
        return WeightsInUse(
            version=manifest.version,
            epoch=manifest.epoch,
            base_version=manifest.base_version,
            num_deltas=len(manifest.deltas),
            created_ms=manifest.created_ms,
            loaded_ms=self.versions.loaded_ms,
            age_s=max(0.0, time.time() - manifest.created_ms / 1000),
            num_samples=manifest.num_samples,
            learned_ts=manifest.learned_ts,
            metrics=manifest.metrics,
            swaps=self.versions.num_swaps,
            refused=self.versions.refused,
            pinned=self.versions.rollout.pinned,
            why_pinned=self.versions.rollout.why_pinned,
        )

    def not_ready(self) -> str:
        """Why requests should go elsewhere; empty if they should come."""
        if not self.is_warm:
            return "it is being compiled"
        try:
            weights = self.weights()
        except NotReadyError as exc:
            return str(exc)
        limit = self._settings.serving.max_weights_age_s
        # Pinned weights are as old as they are meant to be, and so are others while publishing is held.
        is_meant = weights.version == weights.pinned or self.versions.rollout.hold
        if limit and weights.age_s > limit and not is_meant:
            return (
                f"weights {weights.version} were published {weights.age_s:.0f} s ago, at most {limit:.0f} s are "
                f"allowed (serving.max_weights_age_s){': ' + weights.refused if weights.refused else ''}"
            )
        return ""


def _age_s(now_ms: int, since_ms: float) -> float | None:
    return max(0.0, (now_ms - since_ms) / 1000) if since_ms > 0 else None
