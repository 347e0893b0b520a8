"""An item's declared content as a hashed vector, and behind it the mean of its words' vectors if there are any.

Feature hashing with signs (Weinberger et al., ICML 2009). Each field has length 1, whatever the number of its values;
so have the words of all fields together.

Legend: B samples, F fields, N occurrences, H buckets, and behind them dimensions of words, W; V words, P pairs.
"""

import numpy as np

from learner.tables.compiled import compiled_maker
from learner.tables.hashing import mix

_SIGN_BIT = np.uint64(1 << 63)


@compiled_maker
def hashed(
    offsets_B1: np.ndarray,
    keys_N: np.ndarray,
    kinds_N: np.ndarray,
    weights_N: np.ndarray,
    chosen_M: np.ndarray,
    is_content_F: np.ndarray,
    num_buckets: int,
    word_keys_V: np.ndarray,
    vectors_VW: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Content of the chosen samples' items: vectors (M, H), float32, and a print of each, uint64.

    Args:
        offsets_B1, keys_N, kinds_N, weights_N: occurrences of the samples' values.
        chosen_M: numbers of the samples.
        is_content_F: uint8, whether a field says what an item is.
        num_buckets: a power of two.
        word_keys_V: of words, ascending.
        vectors_VW: of each.
    """
    width = vectors_VW.shape[1]
    content_MH = np.zeros((len(chosen_M), num_buckets + width), np.float32)
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
            v = np.searchsorted(word_keys_V, keys_N[n])
            if v < len(word_keys_V) and word_keys_V[v] == keys_N[n]:
                for w in range(width):
                    content_MH[m, num_buckets + w] += weights_N[n] * vectors_VW[v, w]
        length = np.float32(0.0)
        for w in range(num_buckets, num_buckets + width):
            length += content_MH[m, w] * content_MH[m, w]
        if length > 0:
            for w in range(num_buckets, num_buckets + width):
                content_MH[m, w] /= np.sqrt(length)
    return content_MH, print_M


@compiled_maker
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
