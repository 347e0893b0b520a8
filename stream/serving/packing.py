"""What is asked -> samples, with the state of user and items as of now.

Legend: B candidates.
"""

from collections.abc import Mapping, Sequence

import msgspec

from learner.samples.asked import Column, Shared, samples_of, with_histories
from learner.samples.columns import Samples
from state_store.entities.packed import PackedState
from stream.events import RawFeature
from stream.features import FeatureExtractor
from stream.settings import Settings


class Candidate(msgspec.Struct, frozen=True):
    """An item to score, with the features an impression of it would carry."""

    item_id: str
    features: Mapping[str, RawFeature] = {}


class Packing:
    """Makes samples of candidates.

    Args:
        settings: those of the learner that publishes.
    """

    def __init__(self, settings: Settings) -> None:
        self._layout = settings.recipe.layout
        self._lengths = [history.length for history in settings.histories]
        self._extractor = FeatureExtractor(settings.fields)
        self.names = [field.name for field in settings.fields if field.name not in ("user_id", "item_id")]
        """Declared fields that features are looked up for, in the order of `columns`."""

    def columns(self, user_features: Mapping[str, RawFeature], candidates: Sequence[Candidate]) -> list[Column]:
        """Features by field.

        Raises:
            MalformedEventError: a value is not of its field's kind.
        """
        return self._extractor.columns(user_features, [candidate.features for candidate in candidates])

    def missing(self, columns: Sequence[Column], num_candidates: int) -> dict[str, int]:
        """Declared fields that candidates lack, and how many lack each."""
        lacking = {}
        for name, column in zip(self.names, columns, strict=True):
            values = [column.value] if isinstance(column, Shared) else column
            count = sum(value is None for value in values)
            if count:
                lacking[name] = num_candidates if isinstance(column, Shared) else count
        return lacking

    def samples(
        self, now_ms: int, user_id: str, item_ids: Sequence[str], columns: Sequence[Column], state: PackedState
    ) -> Samples:
        """One sample per candidate.

        Args:
            now_ms: when they would be shown.
            user_id: who would see them.
            item_ids: B items.
            columns: from `columns`.
            state: of the user and the items.
        """
        samples = samples_of(self._layout, now_ms, user_id, item_ids, columns)
        rows = samples.rows_B
        rows["user_counts"], rows["user_norm"] = state.user_counts_C, state.user_norm
        rows["user_norm_version"] = state.user_norm_version
        rows["user_first_ts"], rows["user_last_ts"] = state.user_first_ts, state.user_last_ts
        rows["item_counts"], rows["item_norm"] = state.item_counts_BC, state.item_norm_B
        rows["item_norm_version"] = state.item_norm_version_B
        if self._lengths:
            histories = state.histories_before(now_ms, self._lengths)
            return with_histories(samples, histories)
        return samples
