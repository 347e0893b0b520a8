"""Hashes in compiled code are those of the libraries that the rest of the project asks."""

import random

import numpy as np
import pytest
from kafka.partitioner.default import murmur2 as kafkas_murmur2
from xxhash import xxh3_64_intdigest

from stream.ingest.plain.hashes import LONGEST, murmur2, xxh3


@pytest.mark.parametrize("size", range(LONGEST + 1))
def test_they_are_the_libraries(size: int) -> None:
    rng = random.Random(size)
    for _ in range(20):
        text, seed, before = rng.randbytes(size + 9), rng.getrandbits(64), rng.randrange(9)
        array, own = np.frombuffer(text, np.uint8), text[before : before + size]
        assert int(xxh3(array, before, before + size, np.uint64(seed))) == xxh3_64_intdigest(own, seed)
        assert int(murmur2(array, before, before + size)) == kafkas_murmur2(own) & 0xFFFF_FFFF
