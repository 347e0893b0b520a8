"""A frozen version of the tokenizer in NumPy: what encodes samples where they are joined, without torch.

It takes what `SampleTokenizer.frozen` gives, by name; as bytes, a safetensors file.

Legend: B samples, N values, I inputs, T slots, X length of a slot's slice, M levels, V codes, D length of a vector.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from learner.config import FieldSettings, SifSettings
from learner.samples.columns import Samples
from learner.sif.inputs import InputReader, Inputs, slots_of
from learner.sif.packed import pack, tag_of

TIE = 1e-5
"""Share of the squared lengths by which distances to codes that differ are told apart. Codes that began anew with the
same sample are equal, and how a product of matrices rounds depends on their sizes: what is said of a sample must not
depend on which others it came with."""


def nearest(residual_BD: np.ndarray, book_VD: np.ndarray) -> np.ndarray:
    """Number of the nearest code; the first one of those that are equally near (`TIE`), shape (B,)."""
    squares_V = (book_VD * book_VD).sum(axis=1)
    far_BV = squares_V - 2 * residual_BD @ book_VD.T
    slack_B = TIE * ((residual_BD * residual_BD).sum(axis=1) + squares_V.max())
    code_B: np.ndarray = (far_BV <= (far_BV.min(axis=1) + slack_B)[:, None]).argmax(axis=1)
    return code_B


def made_for(fields: Sequence[FieldSettings], settings: SifSettings) -> int:
    """Number of the fields and settings that a version can encode."""
    declared = [[field.name, field.group, field.kind] for field in fields], settings
    return int(xxh3_64_intdigest(msgspec.json.encode(declared)))


class FrozenTokenizer:
    """Encodes by one version.

    Args:
        arrays: of the version.
        fields: those that it was made for.
        settings: `model.sif`.

    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], fields: Sequence[FieldSettings], settings: SifSettings
    ) -> None:
        self._arrays, self._books_TMVD = arrays, arrays["books_TMVD"]
        self._slots, self._reader = slots_of(fields, settings), InputReader(fields, settings)
        self._bits = settings.code_bits
        self.version = int(arrays["version"][0])

    def words(self, samples: Samples) -> np.ndarray:
        """Packed codes of B samples, with the version's tag; uint64."""
        codes_BTM = self.codes(samples)
        return pack(codes_BTM.reshape(len(codes_BTM), -1), self._bits, tag_of(self.version))

    def codes(self, samples: Samples) -> np.ndarray:
        """Codes of B samples, shape (B, T, M), uint8."""
        vectors_BTD = self.vectors(samples)
        codes_BTM = np.empty((*vectors_BTD.shape[:2], self._books_TMVD.shape[1]), np.uint8)
        for t, books_MVD in enumerate(self._books_TMVD):
            residual_BD = vectors_BTD[:, t]
            for m, book_VD in enumerate(books_MVD):
                code_B = nearest(residual_BD, book_VD)
                codes_BTM[:, t, m] = code_B
                residual_BD = residual_BD - book_VD[code_B]
        return codes_BTM

    def decode(self, codes_BTM: np.ndarray) -> np.ndarray:
        """e of codes, shape (B, T, D)."""
        num_slots, num_levels = self._books_TMVD.shape[:2]
        slots, levels = np.arange(num_slots)[:, None], np.arange(num_levels)
        decoded_BTD: np.ndarray = self._books_TMVD[slots, levels, codes_BTM].sum(axis=2)
        return decoded_BTD

    def vectors(self, samples: Samples) -> np.ndarray:
        """f~ of each slot of B samples, what codes are near to, shape (B, T, D); float32."""
        return self._vectors(self._reader.read(samples))

    def _vectors(self, inputs: Inputs) -> np.ndarray:
        rows_ND = inputs.weights_N[:, None] * self._arrays["table_RD"][inputs.buckets_N]
        sums_ND = np.zeros((len(rows_ND) + 1, rows_ND.shape[1]))
        np.cumsum(rows_ND, axis=0, out=sums_ND[1:])
        ends_BI = np.cumsum(inputs.sizes_BI).reshape(inputs.sizes_BI.shape)
        emb_BID = (sums_ND[ends_BI] - sums_ND[ends_BI - inputs.sizes_BI]).astype(np.float32)
        weight_TXD, vectors = self._arrays["weight_TXD"], []
        for slot, weight_XD, bias_D in zip(self._slots, weight_TXD, self._arrays["bias_TD"], strict=True):
            slice_BX = emb_BID[:, slot].reshape(len(emb_BID), -1)
            vectors.append(slice_BX @ weight_XD[: slice_BX.shape[1]] + bias_D)
        return np.stack(vectors, axis=1)
