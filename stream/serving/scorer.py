"""Scoring: the newest verified weights, and state read from Redis as of now."""

import threading
import time
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import redis

from learner.samples.columns import Samples, of_cores
from learner.snapshot import Part, Scores, ServingModel
from learner.targets import expected_values
from state_store.errors import OperatorError
from state_store.weights import Manifest, WeightStore
from stream.events import RawFeature
from stream.features import FeatureExtractor
from stream.partitioning import partition_of
from stream.process.store import open_store
from stream.settings import Settings


class NoWeightsError(OperatorError):
    """Nothing has been published yet."""


class UnknownTaskError(OperatorError):
    """A score is asked for that no model gives."""


class Candidate(msgspec.Struct, frozen=True):
    """An item to score, with the features an impression of it would carry."""

    item_id: str
    features: Mapping[str, RawFeature] = {}


class Scorer:
    """Scores items for a user (y_adapt, AdaF2M2, eq. 4).

    Args:
        settings: those of the learner that publishes.
        client: Redis.

    A snapshot is swapped in whole under a lock; blobs are verified against the manifest's hashes before.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._store = open_store(settings, client)
        self._weights = WeightStore(client, settings.redis.prefix)
        self._extract = FeatureExtractor(settings.fields).extract
        self._lock = threading.Lock()
        self._model: ServingModel | None = None
        self.manifest: Manifest | None = None
        self.tasks: tuple[str, ...] = settings.learned_tasks
        """Tasks that have a score."""

    def refresh(self) -> bool:
        """Load the newest weights if there are newer ones; returns whether it did.

        Raises:
            WeightsError: a blob is missing or damaged; the weights in use stay.
        """
        newest = self._weights.latest()
        held = self.manifest
        if newest is None or (held is not None and newest.version == held.version):
            return False
        follows = held is not None and held.base == newest.base and newest.deltas[: len(held.deltas)] == held.deltas
        refs = newest.deltas[len(held.deltas) :] if follows and held else (newest.base, *newest.deltas)
        blobs = [self._weights.get(ref) for ref in refs]
        settings = self._settings
        with self._lock:
            model = self._model
            if model is None or not follows:
                model = ServingModel(settings.recipe)
            for blob in blobs:
                model.load(blob)
            self._model, self.manifest = model, newest
        return True

    def score(
        self,
        user_id: str,
        user_features: Mapping[str, RawFeature],
        candidates: Sequence[Candidate],
        task: str = "",
    ) -> np.ndarray:
        """Probability of a positive label per candidate, shape (len(candidates),).

        Args:
            user_id: who would see them.
            user_features: as an impression would carry them.
            candidates: the items.
            task: whose label; empty: the main task's.

        Raises:
            NoWeightsError: `refresh` has found no weights so far.
            UnknownTaskError: the model does not learn the task.
        """
        return self.scores(user_id, user_features, candidates, task).predictions_B

    def scores(
        self,
        user_id: str,
        user_features: Mapping[str, RawFeature],
        candidates: Sequence[Candidate],
        task: str = "",
    ) -> Scores:
        """The same, with the score to order candidates by, and those of every task, where all of them are learned."""
        if task and task not in self.tasks:
            raise UnknownTaskError(f"task {task!r} has no score; the model learns {list(self.tasks)}")
        self._need_weights()
        samples = self._samples(user_id, user_features, candidates)
        with self._lock:
            assert self._model is not None
            scores = self._model.predict(samples)
        if scores.predictions_BT is None or scores.ranks_BT is None:
            return scores
        n = self.tasks.index(task or self._settings.main_task.name)
        return msgspec.structs.replace(scores, predictions_B=scores.predictions_BT[:, n], ranks_B=scores.ranks_BT[:, n])

    def score_tasks(
        self, user_id: str, user_features: Mapping[str, RawFeature], candidates: Sequence[Candidate]
    ) -> dict[str, np.ndarray]:
        """What is expected of each candidate, by task, of every task that is learned.

        The probability of a positive label; of a task with `value_unit`, the value itself, as seconds watched.
        """
        scores = self.scores(user_id, user_features, candidates)
        if scores.predictions_BT is None:
            return {self.tasks[0]: scores.predictions_B}
        recipes = self._settings.recipe.tasks
        return {task.name: expected_values(scores.predictions_BT[:, n], task) for n, task in enumerate(recipes)}

    def explain(self, user_id: str, item_id: str, features: Mapping[str, RawFeature] | None = None) -> list[Part]:
        """The parts of the logit for a user and an item as they stand now, with the weight that state gives each.

        Raises:
            NoWeightsError: nothing has been published yet.
        """
        self._need_weights()
        samples = self._samples(user_id, features or {}, [Candidate(item_id)])
        with self._lock:
            assert self._model is not None
            return self._model.explain(samples)

    def _need_weights(self) -> None:
        if self._model is None and not self.refresh():
            raise NoWeightsError("no weights are published yet; start a learner and wait for its first publish")

    def _samples(
        self, user_id: str, user_features: Mapping[str, RawFeature], candidates: Sequence[Candidate]
    ) -> Samples:
        """One sample per candidate, with the state of user and item as of now."""
        partition = partition_of(user_id, self._settings.kafka.partitions)
        user = self._store.read_user(partition, user_id)
        items = self._store.read_items(partition, [c.item_id for c in candidates])
        now_ms = time.time_ns() // 1_000_000
        layout = self._settings.recipe.layout
        samples = of_cores(
            [
                layout.pack_core("", user_id, c.item_id, (now_ms, 0), self._extract({**user_features, **c.features}))
                for c in candidates
            ],
            layout,
        )
        rows = samples.rows_B
        rows["user_counts"], rows["user_norm"], rows["user_norm_version"] = user.counts, user.norm, user.norm_version
        rows["user_first_ts"], rows["user_last_ts"] = user.first_ts, user.last_ts
        rows["item_counts"] = [item.counts for item in items]
        rows["item_norm"] = [item.norm for item in items]
        rows["item_norm_version"] = [item.norm_version for item in items]
        rows["negative_rate"] = 1.0
        return samples
