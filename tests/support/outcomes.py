"""Outcomes of what was served, drawn."""

import numpy as np

from stream.served import ServedOutcomes


def outcomes(
    probability_N: np.ndarray, other_N: np.ndarray, label_N: np.ndarray, version: int = 5, **columns: np.ndarray
) -> ServedOutcomes:
    """Of canary users, each another one, unless columns say otherwise."""
    count = len(probability_N)
    nothing_N = np.zeros(count, np.int64)
    given: dict[str, np.ndarray] = {
        "users_N": np.arange(count).astype(np.uint64),
        "user_impressions_N": np.full(count, 50, np.int32),
        "item_impressions_N": nothing_N.astype(np.int32),
        "first_ts_N": nothing_N,
        "probability_N": probability_N,
        "version_N": np.full(count, version),
        "other_N": other_N,
        "arm_N": nothing_N.astype(np.uint64),
        "canary_N": np.ones(count, np.bool_),
        "label_N": label_N.astype(np.bool_),
        "sign_N": np.ones(count, np.int8),
        "late_N": nothing_N.astype(np.bool_),
        "rate_N": np.ones(count),
        "progressive_N": probability_N,
        "ts_N": nothing_N,
    }
    return ServedOutcomes(**{**given, **columns})
