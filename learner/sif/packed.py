"""Codes of a sample in the eight bytes that an entry of a history has for its category.

The lowest four bits are the version of the codebooks, 1 to 15 and then 1 again; 0: the sample was not encoded. Behind
it come the codes, slot by slot and level by level, each of as many bits as the codebooks' size takes.
"""

import numpy as np

VERSION_BITS = 4
NUM_TAGS = (1 << VERSION_BITS) - 1
"""Versions that have different tags."""
MOST_BITS = 64 - VERSION_BITS


def tag_of(version: int) -> int:
    """Tag of a version; 0 of version 0, which is none.

    >>> [tag_of(version) for version in (0, 1, 15, 16)]
    [0, 1, 15, 1]
    """
    return (version - 1) % NUM_TAGS + 1 if version else 0


def check_bits(num_slots: int, levels: int, code_bits: int) -> None:
    """Whether the codes have room.

    Raises:
        ValueError: says which settings to change.
    """
    if num_slots * levels * code_bits > MOST_BITS:
        raise ValueError(
            f"model.sif: {num_slots} sub-tokens of {levels} codes of {code_bits} bits are "
            f"{num_slots * levels * code_bits} bits, and at most {MOST_BITS} are kept of a sample; make sif.levels or "
            "sif.code_bits smaller, or sif.fields_per_token larger"
        )


def pack(codes_BX: np.ndarray, code_bits: int, tag: int) -> np.ndarray:
    """Codes of B samples as B words, uint64.

    >>> [hex(word) for word in pack(np.array([[1, 2], [63, 0]], np.uint8), 6, 3)]
    ['0x813', '0x3f3']
    """
    shifts_X = VERSION_BITS + code_bits * np.arange(codes_BX.shape[1], dtype=np.uint64)
    words_B: np.ndarray = (codes_BX.astype(np.uint64) << shifts_X).sum(axis=1, dtype=np.uint64) | np.uint64(tag)
    return words_B
