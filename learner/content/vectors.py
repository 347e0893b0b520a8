"""An item's declared content as a hashed vector.

Feature hashing with signs (Weinberger et al., ICML 2009). Each field has length 1, whatever the number of its values.

Legend: B samples, F fields, N occurrences, H buckets, P pairs.
"""

import numpy as np

from learner.tables.compiled import compiled
from learner.tables.hashing import mix

_SIGN_BIT = np.uint64(1 << 63)


@compiled
def hashed(
    offsets_B1: np.ndarray,
    keys_N: np.ndarray,
    kinds_N: np.ndarray,
    weights_N: np.ndarray,
    chosen_M: np.ndarray,
    is_content_F: np.ndarray,
    num_buckets: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Content of the chosen samples' items: hashed vectors (M, H), float32, and a print of each, uint64.

    Args:
        offsets_B1, keys_N, kinds_N, weights_N: occurrences of the samples' values.
        chosen_M: numbers of the samples.
        is_content_F: uint8, whether a field says what an item is.
        num_buckets: H, a power of two.
    """
    content_MH = np.zeros((len(chosen_M), num_buckets), np.float32)
    print_M = np.zeros(len(chosen_M), np.uint64)
    mask = np.uint64(num_buckets - 1)
    for m in range(len(chosen_M)):
        b = chosen_M[m]
        for n in range(offsets_B1[b], offsets_B1[b + 1]):
            if is_content_F[kinds_N[n]] == 0:
                continue
            key = mix(keys_N[n])
            value = np.sqrt(weights_N[n])
            content_MH[m, np.int64(key & mask)] += -value if key & _SIGN_BIT else value
            print_M[m] += mix(key)
    return content_MH, print_M


@compiled
def categories(
    offsets_B1: np.ndarray, keys_N: np.ndarray, kinds_N: np.ndarray, chosen_M: np.ndarray, field: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values of one field: keys (P,), and the number among the chosen samples (P,) of whose it is."""
    room = 0
    for b in chosen_M:
        room += offsets_B1[b + 1] - offsets_B1[b]
    keys_P, of_P, p = np.empty(room, np.uint64), np.empty(room, np.int64), 0
    for m in range(len(chosen_M)):
        b = chosen_M[m]
        for n in range(offsets_B1[b], offsets_B1[b + 1]):
            if kinds_N[n] == field:
                keys_P[p], of_P[p] = keys_N[n], m
                p += 1
    return keys_P[:p].copy(), of_P[:p].copy()
