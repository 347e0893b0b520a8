"""Figures in every replicate of a bootstrap over users.

Each user is drawn with replacement, with all samples that are theirs; two models are compared on the same draws, so
that what is hard for both cancels (paired bootstrap). Column 0 of the replicates is the figure itself: each user once.

Legend: N samples, U users, R replicates and the figure itself.
"""

import numpy as np

from learner.tables.compiled import compiled_maker


def drawn_users(num_users: int, num_replicates: int, seed: int) -> np.ndarray:
    """How often each user is drawn, shape (U, R), float32.

    Args:
        num_users: U.
        num_replicates: R - 1.
        seed: of the draws.

    >>> drawn_users(4, 3, seed=0).sum(axis=0).tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    rng = np.random.default_rng(seed)
    counts_UR = np.ones((num_users, 1 + num_replicates), np.float32)
    for r in range(1, 1 + num_replicates):
        counts_UR[:, r] = np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
    return counts_UR


@compiled_maker
def replicated_auc(
    scores_N: np.ndarray,
    order_N: np.ndarray,
    labels_N: np.ndarray,
    weights_N: np.ndarray,
    users_N: np.ndarray,
    counts_UR: np.ndarray,
) -> np.ndarray:
    """AUC of the samples in `order_N`, by rising score, in each replicate; ties count one half."""
    num_replicates = counts_UR.shape[1]
    pairs_R, below_R, above_R = np.zeros(num_replicates), np.zeros(num_replicates), np.zeros(num_replicates)
    tied_2R = np.zeros((2, num_replicates))
    begin = 0
    while begin < len(order_N):
        end, score = begin, scores_N[order_N[begin]]
        tied_2R[:] = 0.0
        while end < len(order_N) and scores_N[order_N[end]] == score:
            n = order_N[end]
            label, user, weight = np.int64(labels_N[n]), users_N[n], weights_N[n]
            for r in range(num_replicates):
                tied_2R[label, r] += weight * counts_UR[user, r]
            end += 1
        for r in range(num_replicates):
            pairs_R[r] += tied_2R[1, r] * (below_R[r] + 0.5 * tied_2R[0, r])
            below_R[r] += tied_2R[0, r]
            above_R[r] += tied_2R[1, r]
        # A score that is no number equals nothing, not even itself.
        begin = max(end, begin + 1)
    return pairs_R / (below_R * above_R)


@compiled_maker
def user_sums(
    scores_N: np.ndarray,
    order_N: np.ndarray,
    labels_N: np.ndarray,
    weights_N: np.ndarray,
    users_N: np.ndarray,
    num_users: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Per user, AUC times mass, and mass; both 0 where a user has labels of one kind only.

    Args:
        scores_N, labels_N, weights_N, users_N: of the samples.
        order_N: by user, then by rising score.
        num_users: U.
    """
    auc_U, mass_U = np.zeros(num_users), np.zeros(num_users)
    begin = 0
    while begin < len(order_N):
        user = users_N[order_N[begin]]
        pairs = below = above = 0.0
        while begin < len(order_N) and users_N[order_N[begin]] == user:
            score, negatives, positives = scores_N[order_N[begin]], 0.0, 0.0
            end = begin
            while (
                end < len(order_N)
                and users_N[order_N[end]] == user
                and (end == begin or scores_N[order_N[end]] == score)
            ):
                n = order_N[end]
                if labels_N[n]:
                    positives += weights_N[n]
                else:
                    negatives += weights_N[n]
                end += 1
            pairs += positives * (below + 0.5 * negatives)
            below, above, begin = below + negatives, above + positives, end
        if below > 0 and above > 0:
            mass_U[user] = below + above
            auc_U[user] = pairs / (below * above) * mass_U[user]
    return auc_U, mass_U
