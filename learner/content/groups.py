"""Many vectors in groups of like ones, so that the most similar need not be sought among all (an inverted file).

faiss makes the groups. Vectors then lie group by group, and processes can share them; what is read of a search is a few
stretches of memory. The groups follow from the vectors alone.

Legend: M vectors, G groups, E width, K the most similar ones.
"""

import importlib
from typing import Any, NamedTuple

import numpy as np

_READ = 16
"""Groups that a search reads. Of the 50 most similar ones 96 % are found among 100,000, and those that are found
instead of the others are nearly as similar (`coldstream bench content-start`)."""
_ROUNDS, _PER_GROUP = 6, 64
"""Of k-means, and vectors for each group that it takes at most."""


class Groups(NamedTuple):
    """Which vectors lie where."""

    centres_GE: np.ndarray
    bounds_G1: np.ndarray
    """Place of each group's first, and behind the last one's last."""
    order_M: np.ndarray
    """Number of the vector at each place."""


def grouped(vectors_ME: np.ndarray) -> Groups:
    """Groups of vectors of length 1, about as many as are in each; float32."""
    faiss: Any = importlib.import_module("faiss")
    # Its threads would contend with whatever else runs.
    faiss.omp_set_num_threads(1)
    num_groups = max(1, round(len(vectors_ME) ** 0.5))
    means = faiss.Kmeans(
        vectors_ME.shape[1],
        num_groups,
        niter=_ROUNDS,
        spherical=True,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=_PER_GROUP,
    )
    means.train(vectors_ME)
    _, nearest_M1 = means.index.search(vectors_ME, 1)
    groups_M = nearest_M1[:, 0]
    bounds_G1 = np.concatenate([[0], np.cumsum(np.bincount(groups_M, minlength=num_groups))])
    return Groups(means.centroids.copy(), bounds_G1, np.argsort(groups_M, kind="stable"))


def most_similar(
    query_E: np.ndarray, vectors_ME: np.ndarray, groups: Groups | None, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the most similar vectors, and their cosines, most similar first; both (K,), K at most `num`.

    Args:
        query_E: of length 1.
        vectors_ME: at least one, of length 1; by their places, where there are groups.
        groups: of the vectors; None: all are read.
        num: at least 1.
    """
    if groups is None:
        cosines_M = vectors_ME @ query_E
        best_K = _best(cosines_M, num)
        return best_K, cosines_M[best_K]
    groups_R = _best(groups.centres_GE @ query_E, _READ)
    # In the order in which they lie.
    parts = [slice(*groups.bounds_G1[g : g + 2]) for g in np.sort(groups_R)]
    cosines_P = np.concatenate([vectors_ME[part] @ query_E for part in parts])
    numbers_P = np.concatenate([groups.order_M[part] for part in parts])
    best_K = _best(cosines_P, num)
    return numbers_P[best_K], cosines_P[best_K]


def _best(scores_M: np.ndarray, num: int) -> np.ndarray:
    num = min(num, len(scores_M))
    best_K = np.argpartition(-scores_M, num - 1)[:num]
    in_order_K: np.ndarray = best_K[np.argsort(-scores_M[best_K], kind="stable")]
    return in_order_K
