"""How firmly each value of a row is held: what differences of several ranks weigh when they are put together.

Every value is learned by steps over what is known of it so far: a first-order weight by its precision, s0 + G; a factor
by the root of its squared gradients, sqrt(h0 + H) (Duchi et al. 2011). Where several ranks have gone on from the same
value x0 each by itself, to x_r with precision p_r, the merged precision is p, of the sum of all evidence, and

    x = x0 + sum_r (x_r - x0) p_r / p

For first-order weights that is the product of the ranks' normal posteriors over their common prior, which a learner
that had met all their samples would hold. The plain sum of differences, which it comes near to where much is known,
would go twice as far for what two ranks have both just met. One rank alone moves as if it were by itself.

Legend: T rows, X values of a row, F fields.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learner.adaf2m2.taken import SQUARES, VALUES
from learner.recipe import Recipe
from learner.tables.table import Group, Table

_EVIDENCE: Mapping[str, str] = {"w": "G", "v": "H", VALUES: SQUARES}
_SMALL = 1e-10


class Precision:
    """Of the rows of one table.

    Args:
        groups: its values.
        prior_F: s0 of a first-order weight, by field or cross.
        square_prior: h0 of factors.
    """

    def __init__(self, groups: Sequence[Group], prior_F: np.ndarray, square_prior: float) -> None:
        self._places: dict[str, slice] = {}
        begin = 0
        for group in groups:
            self._places[group.name] = slice(begin, begin + group.width)
            begin += group.width
        self._prior_F, self._square_prior = prior_F, square_prior
        evidence = set(_EVIDENCE.values())
        self.is_evidence_X = np.zeros(begin, np.bool_)
        """Whether a value is a sum of evidence, which is added up as it is and never falls below 0."""
        for name in evidence & set(self._places):
            self.is_evidence_X[self._places[name]] = True

    def of(self, fields_T: np.ndarray, block_TX: np.ndarray) -> np.ndarray:
        """Of each value of rows, float64, by the evidence in the same rows; of evidence 1."""
        precision_TX = np.ones(block_TX.shape)
        for name, evidence in _EVIDENCE.items():
            if name not in self._places:
                continue
            found_TW = block_TX[:, self._places[evidence]].astype(np.float64)
            if name == "w":
                precision_TX[:, self._places[name]] = self._prior_F[fields_T, None] + found_TW
            else:
                least = self._square_prior if name == "v" else 0.0
                precision_TX[:, self._places[name]] = np.sqrt(least + found_TW) + _SMALL
        return precision_TX


def precision_of(recipe: Recipe, table: Table, prior_F: np.ndarray) -> Precision:
    """Of a table of a recipe's; `prior_F` as of `Precision`."""
    return Precision(table.groups, prior_F.astype(np.float64), recipe.fast.square_prior)
