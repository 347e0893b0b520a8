"""SIF's sample tokenizer: a sample's inputs -> vectors of its slots -> codes; learned with the model it is for.

    paper                               here
    F_g, K_g, B                         inputs.slots_of
    f~_(g,k) = W_(g,k) [f of its slice] SampleTokenizer.vectors
    r^m, q_m, c, e                      codebooks.quantise
    y_token = sigmoid(MLP(e))           SampleTokenizer.says
    L_VQ = lambda |f~ - sg(e)|^2        SampleTokenizer.auxiliary; codes move by averages, and have no gradient
    L_align = sum |W_res f - sg(e)|^2   the same
    L_token                             the model's loss of `Auxiliary.logit_B` (learner/adaf2m2/loss.py)

The gradient of what follows goes straight through the codes to f~ (which the paper leaves open). A version is frozen
every so many samples: its table and projections encode, its codebooks decode; those of the last two are kept.

Legend: B samples, I inputs, T slots, S inputs of a slot at most, M levels, V codes, D length of a vector, R rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from learner.config import SifSettings
from learner.sif.codebooks import Codebooks, Quantised, decode, quantise, usage_entropy
from learner.sif.inputs import Inputs
from learner.sif.packed import NUM_TAGS, VERSION_BITS, check_bits

_HIDDEN = 32
_ENCODING = "table_RD", "weight_TXD", "bias_TD"
_INIT_STD = 0.1


class Auxiliary(NamedTuple):
    """What the tokenizer adds to the loss of a micro-batch."""

    loss: Tensor
    """beta L_VQ + gamma L_align - the weighted entropy of usage; a scalar."""
    logit_B: Tensor
    """What the codes alone say of the label."""
    token_weight: float
    """delta."""
    quantised: Quantised


class SampleTokenizer(nn.Module):
    """HGAQ with a table of its own.

    Args:
        slots: inputs of each of T slots.
        num_inputs: I.
        settings: `model.sif`.
        dim: D.

    Raises:
        ValueError: the codes have no room.
    """

    index_TS: Tensor
    num_seen: Tensor
    version: Tensor
    frozen_2TMVD: Tensor

    def __init__(self, slots: Sequence[Sequence[int]], num_inputs: int, settings: SifSettings, dim: int) -> None:
        super().__init__()
        check_bits(len(slots), settings.levels, settings.code_bits)
        self._settings = settings
        most = max(map(len, slots))
        shape = len(slots), settings.levels, 1 << settings.code_bits, dim
        self.register_buffer("index_TS", slot_index(slots, num_inputs), persistent=False)
        self.table_RD = nn.Parameter(_INIT_STD * torch.randn(settings.buckets, dim))
        self.weight_TXD = nn.Parameter(torch.randn(len(slots), most * dim, dim) / (most * dim) ** 0.5)
        self.bias_TD = nn.Parameter(torch.zeros(len(slots), dim))
        self.codebooks = Codebooks(shape, settings.decay, settings.restart_batches)
        self.says = nn.Sequential(nn.Linear(len(slots) * dim, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))
        self.register_buffer("num_seen", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("version", torch.zeros(1, dtype=torch.int64))
        # The newest, and the one before it.
        self.register_buffer("frozen_2TMVD", torch.zeros(2, *shape))
        for name in _ENCODING:
            self.register_buffer(f"frozen_{name}", torch.zeros_like(getattr(self, name)))

    @property
    def num_slots(self) -> int:
        """T."""
        return len(self.index_TS)

    def embed(self, inputs: Inputs) -> Tensor:
        """Means of the rows of each input's values, shape (B, I, D); zeros of one without any."""
        sizes_N = inputs.sizes_BI.ravel()
        told = inputs.buckets_N, np.cumsum(sizes_N) - sizes_N, inputs.weights_N
        buckets_N, offsets_N, weights_N = (torch.from_numpy(column).to(self.table_RD.device) for column in told)
        pooled_ND = nnf.embedding_bag(buckets_N, self.table_RD, offsets_N, mode="sum", per_sample_weights=weights_N)
        return pooled_ND.view(*inputs.sizes_BI.shape, -1)

    def vectors(self, emb_BID: Tensor) -> Tensor:
        """f~ of each slot, shape (B, T, D): a linear map of its slice."""
        return torch.einsum("btx,txd->btd", slices_of(emb_BID, self.index_TS), self.weight_TXD) + self.bias_TD

    def auxiliary(self, emb_BID: Tensor, target_BTD: Tensor) -> Auxiliary:
        """The tokenizer run on the samples that are learned.

        Args:
            emb_BID: of their inputs.
            target_BTD: W_res f of the same samples.
        """
        settings, books_TMVD = self._settings, self.codebooks.books_TMVD
        vectors_BTD = self.vectors(emb_BID)
        found = quantise(vectors_BTD.detach(), books_TMVD)
        vq = settings.commitment * (vectors_BTD - found.decoded_BTD).square().sum((1, 2)).mean()
        align = (target_BTD - found.decoded_BTD).square().sum((1, 2)).mean()
        # Of each level the vector's part that is left, so that the gradient reaches the vector.
        left_BTMD = found.residuals_BTMD + (vectors_BTD - vectors_BTD.detach()).unsqueeze(2)
        loss = settings.vq_weight * vq + settings.align_weight * align
        if settings.entropy_weight:
            loss = loss - settings.entropy_weight * usage_entropy(left_BTMD, books_TMVD)
        straight_BTD = vectors_BTD + (found.decoded_BTD - vectors_BTD).detach()
        weight = settings.token_weight if int(self.version) else 1.0
        return Auxiliary(loss, self.says(straight_BTD.flatten(1)).squeeze(1), weight, found)

    @torch.no_grad()
    def update(self, found: Quantised) -> None:
        """Behind a step: move the codes, and freeze a version where one is due."""
        self.codebooks.update(found)
        before = int(self.num_seen)
        self.num_seen += len(found.codes_BTM)
        every = self._settings.freeze_samples
        if before // every < int(self.num_seen) // every:
            self._freeze()

    @torch.no_grad()
    def _freeze(self) -> None:
        self.frozen_2TMVD[1] = self.frozen_2TMVD[0] if int(self.version) else self.codebooks.books_TMVD
        self.frozen_2TMVD[0] = self.codebooks.books_TMVD
        for name in _ENCODING:
            getattr(self, f"frozen_{name}").copy_(getattr(self, name))
        self.version += 1

    def moved(self) -> float | None:
        """How far codes moved from the last frozen version to the newest, as a share of their mean length."""
        if int(self.version) < 2:
            return None
        newest_TMVD, before_TMVD = self.frozen_2TMVD
        length = before_TMVD.norm(dim=-1).mean().clamp(min=torch.finfo(torch.float32).tiny)
        return float((newest_TMVD - before_TMVD).norm(dim=-1).mean() / length)

    def frozen(self) -> dict[str, np.ndarray]:
        """What encodes by the newest version, for `FrozenTokenizer`; nothing before the first."""
        if not int(self.version):
            return {}
        tensors = {name: getattr(self, f"frozen_{name}") for name in _ENCODING}
        tensors |= {"books_TMVD": self.frozen_2TMVD[0], "version": self.version}
        return {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}

    def decode(self, words_X: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of packed codes, and whether there are any.

        A version before the last two decodes by the older of these: codebooks move by averages, so a code stays what it
        was unless it began anew.

        Args:
            words_X: int64, as `packed.pack` makes them.

        Returns:
            Vectors, (..., T, D); booleans, (...).
        """
        bits, num_levels = self._settings.code_bits, self._settings.levels
        tags_X = words_X & NUM_TAGS
        shifts = VERSION_BITS + bits * torch.arange(self.num_slots * num_levels, device=words_X.device)
        codes_XN = (words_X.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
        codes_XTM = codes_XN.view(*words_X.shape, self.num_slots, num_levels)
        is_newest_X = tags_X == (self.version - 1) % NUM_TAGS + 1
        newest_XTD, other_XTD = (decode(codes_XTM, books_TMVD) for books_TMVD in self.frozen_2TMVD)
        is_there_X = (tags_X > 0) & (self.version > 0)
        return torch.where(is_newest_X[..., None, None], newest_XTD, other_XTD), is_there_X


def slot_index(slots: Sequence[Sequence[int]], num_inputs: int) -> Tensor:
    """Inputs of each slot, shape (T, S); `num_inputs` where a slot has fewer than others."""
    most = max(map(len, slots))
    return torch.tensor([[*slot, *[num_inputs] * (most - len(slot))] for slot in slots])


def slices_of(emb_BID: Tensor, index_TS: Tensor) -> Tensor:
    """What each slot is made of, side by side, shape (B, T, S D); zeros where it has fewer inputs than others."""
    padded_BID = nnf.pad(emb_BID, (0, 0, 0, 1))
    return padded_BID[:, index_TS].flatten(2)
