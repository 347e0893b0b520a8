"""The fast part as a whole: it predicts, and learns from every sample by itself.

Legend: B samples, S signals.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from learner.config import FieldSettings
from learner.content.config import Kind, starts_of
from learner.content.starts import ContentStarts
from learner.fast.block import Block, Predicted
from learner.fast.config import FastRecipe
from learner.fast.layout import constants_of, cross_value_groups, value_groups
from learner.fast.learning.belief import MAY_TURN, PLAIN, TURNED
from learner.fast.predictor import FastPredictor, FastTables, beliefs_table, covariances_table
from learner.fast.state import FastState
from learner.named import below
from learner.tables.ids import Ids
from learner.tables.table import Group, Table

_TABLE, _CROSSES, _BELIEFS, _COVARIANCES, _DENSE = "table.", "crosses.", "beliefs.", "covariances.", "dense."
_STARTS: dict[Kind, str] = {"item": "starts.", "user": "user_starts."}


class FastPart(FastPredictor):
    """Predicts, and learns from every sample by itself.

    A run with the same seed and the same samples gives the same predictions, however it is cut into blocks.

    Args:
        settings: of the fast part.
        fields: declared fields of a sample, in the order of their numbers.
        num_signals: S, state signals of a sample.
        seed: of new rows' factors and the gate's first weights.
        has_deep: whether blocks bring the logit of a deep part, which is one more component.
        is_weighted: whether samples weigh as in the fake-negative weighted loss (`learner/targets.py`).
        settles: whether negatives may turn, and are believed only so far until they are settled.
        more: what rows of values have besides.

    Raises:
        ValueError: settings that do not fit the fields.
        MemoryRefusedError: the tables' addresses cannot be reserved.
    """

    starts: tuple[ContentStarts, ...]

    def __init__(
        self,
        settings: FastRecipe,
        fields: Sequence[FieldSettings],
        num_signals: int,
        seed: int = 0,
        *,
        has_deep: bool = False,
        is_weighted: bool = False,
        settles: bool = False,
        more: Sequence[Group] = (),
    ) -> None:
        min_counts = [field.min_count for field in fields]
        self._user = next((n for n, field in enumerate(fields) if field.name == "user_id"), 0)
        num_crosses = len(settings.crosses)
        tables = FastTables(
            Table([*value_groups(settings, fields), *more], min_counts, settings.max_rows, seed, settings.counted_ids),
            # A cross is worth a row as soon as its values are: it is of ids that were admitted, or soon will be.
            Table(cross_value_groups(), [1] * max(num_crosses, 1), settings.max_cross_rows if num_crosses else 1),
            # As many as impressions may wait to be settled.
            beliefs_table(settings.max_rows if settles else 1),
            covariances_table(settings, min_counts, settings.max_covariances if settings.kalman else 1),
            tuple(
                ContentStarts(starts, fields, settings.factors, seed, kind)
                for kind, starts in starts_of(settings).items()
            ),
        )
        self._has_covariances = settings.kalman
        dense = FastState(settings, num_signals, has_deep=has_deep, seed=seed)
        constants = constants_of(settings, fields, has_deep=has_deep, is_weighted=is_weighted)
        super().__init__(settings, fields, tables, dense, constants)

    def _start(
        self, n: int, values: Ids, names: Mapping[Kind, Sequence[str]], lacking_I: np.ndarray, rows_N: np.ndarray
    ) -> None:
        starts = self.starts[n]
        starts.start(values, names.get(starts.kind, ()), lacking_I, rows_N, self.table)

    def look(self, num_samples: int, kinds: Collection[Kind]) -> None:
        """See anew what new items, or users, may start with; `num_samples` were learned so far."""
        for starts in self.starts:
            if starts.kind in kinds:
                starts.look(self.table, num_samples)

    def believe(self, imp_keys_B: np.ndarray, ts_B: np.ndarray, turn_B: np.ndarray) -> np.ndarray:
        """Where it is kept how far each sample is believed: `belief_rows_B` of their block.

        Args:
            imp_keys_B: keys of their impressions.
            ts_B: event times, ms.
            turn_B: what they are.
        """
        fields_B = np.zeros(len(turn_B), np.uint8)
        rows_B = self.beliefs.rows(imp_keys_B, fields_B, ts_B, learning=turn_B == MAY_TURN)
        rows_B[turn_B == PLAIN] = 0
        # What is believed of one that may turn is about to be written.
        self.beliefs.mark(rows_B)
        return rows_B

    def covariances_of(self, user_keys_B: np.ndarray, ts_B: np.ndarray, learn_B: np.ndarray) -> np.ndarray:
        """Where the covariance of each sample's user is kept: `covariance_rows_B` of their block.

        Args:
            user_keys_B: keys of their users.
            ts_B: event times, ms.
            learn_B: whether it is learned.
        """
        if not self._has_covariances:
            return np.zeros(len(learn_B), np.int32)
        fields_B = np.full(len(learn_B), self._user, np.uint8)
        rows_B = self.covariances.rows(user_keys_B, fields_B, ts_B, learning=learn_B)
        rows_B[learn_B == 0] = 0
        self.covariances.mark(rows_B)
        return rows_B

    def forget(self, imp_keys_B: np.ndarray, turn_B: np.ndarray) -> None:
        """Those that have turned, or are settled, have been learned from: no more is to come of them."""
        self.beliefs.drop(imp_keys_B[turn_B >= TURNED])

    def learn(self, block: Block) -> Predicted:
        """Predict each sample, and learn from it if it says so, before the next one is predicted.

        What `predict` says of a sample is what `learn` would have said, had it been the next.

        Raises:
            BlockError: a block that contradicts itself or the tables.
        """
        return self._run(block)

    @property
    def tables(self) -> list[Table]:
        """All whose rows come and go with ids."""
        return [self.table, self.cross_table, self.beliefs, self.covariances]

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number, and every one that samples have since met in the tables."""
        return self.dense.is_finite

    def state(self, of_table: Callable[[Table], dict[str, np.ndarray]] = Table.state) -> dict[str, np.ndarray]:
        """Copies of everything that the future depends on.

        Args:
            of_table: what is taken of each table.
        """
        parts = {
            _TABLE: of_table(self.table),
            _CROSSES: of_table(self.cross_table),
            _BELIEFS: of_table(self.beliefs),
            **({_COVARIANCES: of_table(self.covariances)} if self._has_covariances else {}),
            _DENSE: self.dense.state(),
        }
        parts |= {_STARTS[starts.kind]: starts.state(of_table) for starts in self.starts}
        return {prefix + name: array for prefix, arrays in parts.items() for name, array in arrays.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`, bit for bit.

        Raises:
            ValueError: it is of another model.
        """
        parts: list[tuple[str, Table | FastState]] = [
            (_TABLE, self.table),
            (_CROSSES, self.cross_table),
            (_BELIEFS, self.beliefs),
            # Says why, where there are covariances and should be none, or the other way round.
            (_DENSE, self.dense),
            *([(_COVARIANCES, self.covariances)] if self._has_covariances else []),
        ]
        for prefix, part in parts:
            part.restore(below(prefix, state))
        for starts in self.starts:
            starts.restore(below(_STARTS[starts.kind], state))
