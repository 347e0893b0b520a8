"""One user: what is known of it, how it was served, and what the model makes of it."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import redis

from stream.partitioning import partition_of
from stream.predictions.judged import matured
from stream.predictions.log import prediction_files, read_user
from stream.process.store import open_store
from stream.sections import interval_names
from stream.serving.scorer import NoWeightsError, Scorer
from stream.settings import Settings

_FILES = 200
_UNSETTLED = 2
"""Newest files, which a learner that dies may write anew."""
_USERS_KEPT = 64
_RECENT = 20


class Lookup:
    """Looks users up.

    Args:
        settings: effective settings.
        client: Redis.
        folder: the learner's run folder, if it is within reach; its prediction log has what was predicted.
    """

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path | None) -> None:
        self._settings = settings
        self._store = open_store(settings, client)
        self._scorer = Scorer(settings, client)
        self._folder = folder
        self._settled: OrderedDict[str, tuple[str, pl.DataFrame]] = OrderedDict()
        """User -> newest settled file that was read, and the user's rows up to there."""

    def user(self, user_id: str) -> dict[str, Any] | None:
        """Counters, norm, cohort, the model's parts and recent predictions; None for a user never seen. Blocks."""
        state = self._store.read_user(partition_of(user_id, self._settings.kafka.partitions), user_id)
        if not any(state.counts):
            return None
        edges = self._settings.monitor.user_impressions
        cohort = interval_names(edges)[sum(state.counts[0] >= edge for edge in edges)]
        recent = self._recent(user_id)
        return {
            "user_id": user_id,
            "counts": dict(zip(self._settings.actions.counted, state.counts, strict=True)),
            "norm": state.norm,
            "norm_version": state.norm_version,
            "first_ts": state.first_ts,
            "cohort": cohort,
            "explained": self._explain(user_id, recent[0]["item_id"] if recent else ""),
            "predictions": recent,
        }

    def _explain(self, user_id: str, item_id: str) -> list[dict[str, Any]] | None:
        """The parts of the logit for a user and an item as they stand now, and the weight of each."""
        try:
            self._scorer.refresh()
            return [msgspec.to_builtins(part) for part in self._scorer.explain(user_id, item_id)]
        except NoWeightsError:
            return None

    def _recent(self, user_id: str) -> list[dict[str, Any]]:
        """Newest first; the label is what is known of it by now."""
        if self._folder is None:
            return []
        rows = matured(self._rows(user_id))
        columns = ("imp_id", "item_id", "ts", "label", "prediction", "baseline", "user_impressions", "version")
        return rows.select(columns).tail(_RECENT).reverse().to_dicts()

    def _rows(self, user_id: str) -> pl.DataFrame:
        """A user's part of the log's newest files; whoever is looked up again costs the files that came since."""
        assert self._folder is not None
        files = prediction_files(self._folder / "predictions", newest=_FILES)
        settled, unsettled = files[:-_UNSETTLED], files[-_UNSETTLED:]
        read_to, known = self._settled.pop(user_id, ("", read_user([], user_id)))
        if (settled and settled[-1].name < read_to) or (not settled and read_to):
            # Another run has begun in this folder.
            read_to, known = "", read_user([], user_id)
        known = pl.concat([known, read_user([file for file in settled if file.name > read_to], user_id)])
        self._settled[user_id] = (settled[-1].name if settled else ""), known
        if len(self._settled) > _USERS_KEPT:
            self._settled.popitem(last=False)
        return pl.concat([known, read_user(unsettled, user_id)])
