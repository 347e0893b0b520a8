"""Histories of a block of samples -> rows of their items and categories, for the deep part.

Legend: B samples, H histories, L entries of each at most, E entries of all histories, U distinct rows.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.config import BY_SAMPLE, FieldSettings, HistorySettings
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.sif.inputs import InputReader, Inputs
from learner.tables.compiled import compiled_maker
from learner.tables.table import Table


class HistoryRows(msgspec.Struct, frozen=True):
    """The newest L entries of each history, the newest first; row 0 where there is none, or its item has no row."""

    items_BHL: np.ndarray
    categories_BHL: np.ndarray
    gaps_BHL: np.ndarray
    """float32: milliseconds to the impression."""
    codes_BHL: np.ndarray
    """int64: codes of the sample, 0 of a history without."""
    inputs: Inputs | None = None
    """What the candidates' tokens are made of, where they are samples' tokens."""

    def take(self, chosen_B: np.ndarray) -> "HistoryRows":
        """Those of the samples where `chosen_B` (booleans) is true."""
        inputs = None if self.inputs is None else self.inputs.take(chosen_B)
        items_BHL, categories_BHL = self.items_BHL[chosen_B], self.categories_BHL[chosen_B]
        return HistoryRows(items_BHL, categories_BHL, self.gaps_BHL[chosen_B], self.codes_BHL[chosen_B], inputs)


class HistoryPlan:
    """Which entries the deep part reads.

    Args:
        histories: H, that samples carry.
        fields: declared fields of a sample.
        most: L.
        by_category: only those that have the candidate's category.
        inputs: reads what tokens of samples are made of, where they are wanted.

    Raises:
        ValueError: by category, and a history has none.
    """

    def __init__(
        self,
        histories: Sequence[HistorySettings],
        fields: Sequence[FieldSettings],
        most: int,
        *,
        by_category: bool,
        inputs: InputReader | None = None,
    ) -> None:
        single = [field.name for field in fields if field.kind in ("id", "categorical")]
        self.most, self._by_category, self._inputs = most, by_category, inputs
        self._is_coded_H = np.array([history.by == BY_SAMPLE for history in histories])
        self._columns_H = np.array(
            [-1 if history.by in ("", BY_SAMPLE) else single.index(history.by) for history in histories]
        )
        bare = [history.name for history, column in zip(histories, self._columns_H, strict=True) if column < 0]
        if by_category and bare:
            raise ValueError(
                f"model.history is 'sim', which searches by category, and histories {bare} have no field in `by`"
            )

    def rows(self, samples: Samples, table: Table) -> HistoryRows:
        """Rows of a block's histories, as the table has them now.

        Args:
            samples: B of them.
            table: of the deep part's rows.
        """
        rows, entries = samples.rows_B, samples.entries_H
        keys_BK = np.ascontiguousarray(rows["keys"])
        wanted_BH = np.where(self._columns_H >= 0, keys_BK[:, self._columns_H], 0) if self._by_category else None
        picked_BHL = _pick(
            rows["history_starts"].astype(np.int64),
            rows["history_sizes"].astype(np.int64),
            np.ascontiguousarray(entries["category"]),
            np.zeros((0, 0), np.uint64) if wanted_BH is None else wanted_BH,
            self.most,
        )
        # One more entry, of nothing, for what is not there.
        items_E, categories_E = (
            np.append(table.find(np.ascontiguousarray(entries[name])), np.int32(0)) for name in ("item", "category")
        )
        gaps_BHL = rows["ts"][:, None, None] - np.append(entries["ts"], np.nan)[picked_BHL]
        codes_BHL = np.append(entries["category"].view(np.int64), 0)[picked_BHL]
        codes_BHL[:, ~self._is_coded_H] = 0
        categories_BHL = categories_E[picked_BHL]
        categories_BHL[:, self._is_coded_H] = 0
        return HistoryRows(
            items_E[picked_BHL],
            categories_BHL,
            np.nan_to_num(gaps_BHL, nan=0.0).astype(np.float32),
            codes_BHL,
            None if self._inputs is None else self._inputs.read(samples),
        )


def history_plan(recipe: Recipe) -> HistoryPlan | None:
    """Which entries of histories the deep part reads; None where it reads none."""
    if not recipe.deep_histories:
        return None
    model = recipe.model
    reads_samples = model.history == "sif" and model.sif.tokens == "codes"
    return HistoryPlan(
        recipe.histories,
        recipe.fields,
        model.history_items,
        by_category=model.history == "sim",
        inputs=InputReader(recipe.fields, model.sif) if reads_samples else None,
    )


@compiled_maker
def _pick(
    starts_BH: np.ndarray, sizes_BH: np.ndarray, categories_E: np.ndarray, wanted_BH: np.ndarray, most: int
) -> np.ndarray:
    """Numbers of the entries, the newest first; -1 where there are fewer than `most`."""
    num_samples, num_histories = sizes_BH.shape
    picked_BHL = np.full((num_samples, num_histories, most), -1, np.int64)
    for b in range(num_samples):
        for h in range(num_histories):
            begin, found = starts_BH[b, h], 0
            end = begin + sizes_BH[b, h]
            for e in range(end - 1, begin - 1, -1):
                if found == most:
                    break
                if len(wanted_BH) > 0 and (wanted_BH[b, h] == 0 or categories_E[e] != wanted_BH[b, h]):
                    continue
                picked_BHL[b, h, found] = e
                found += 1
    return picked_BHL
