"""One ranking score of the scores of several tasks.

    product   s = sum_t w_t log(p_t + offset), which orders as prod_t (p_t + offset)^w_t does
    sum       s = sum_t w_t p_t

Neither order depends on the scale of the weights, so they are kept with a sum of 1.

Legend: N impressions, T tasks.
"""

from typing import Literal

import numpy as np

Form = Literal["product", "sum"]


def terms_of(predictions_NT: np.ndarray, form: Form, offset: float) -> np.ndarray:
    """What the weights are of, shape (N, T), float64.

    Args:
        predictions_NT: what each task's model says; not negative.
        form: of the fusion.
        offset: of a product.
    """
    scores_NT = predictions_NT.astype(np.float64)
    return np.log(scores_NT + offset) if form == "product" else scores_NT


def fused(
    predictions_NT: np.ndarray, weights_T: np.ndarray, form: Form = "product", offset: float = 1e-3
) -> np.ndarray:
    """Ranking scores, shape (N,).

    >>> one_of_two = np.array([[0.5, 0.1], [0.1, 0.5]])
    >>> fused(one_of_two, np.array([0.8, 0.2])).argmax(), fused(one_of_two, np.array([0.2, 0.8]), "sum").argmax()
    (np.int64(0), np.int64(1))
    """
    scores_N: np.ndarray = terms_of(predictions_NT, form, offset) @ weights_T
    return scores_N


def normalised(weights_T: np.ndarray) -> np.ndarray:
    """The same weights with a sum of 1."""
    scaled_T: np.ndarray = weights_T / weights_T.sum()
    return scaled_T
