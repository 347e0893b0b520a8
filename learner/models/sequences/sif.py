"""SIF as a reader of histories: what a user did as samples in codes, the candidate as vectors of the same slots.

    row l >= 1   codes -> e (a frozen version's codebooks) + position of the slot + time since + outcome
    row 0        W_res of the slot's slice, not quantised + position of the slot + outcome unknown
    Mixer        the target's sub-tokens, T vectors, that g takes as further fields (`deep = "sif"`: as its only ones)

W_res takes the model's own embeddings of declared fields, weighed by the adapter or masked like those that g takes, and
the tokenizer's of hour, weekday and crosses. Outcome is the history that an entry is of, so the action that appended
it; what drew no action of any history is not there.

Legend: B samples, H histories, L entries of each, R = 1 + H L rows, F fields, I inputs, T slots, D length of a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.config import FieldSettings, ModelSettings
from learner.models.sequences.attention import check_heads
from learner.models.sequences.mixer import Mixer
from learner.models.sequences.reader import Query, Reader, Sequences
from learner.models.sequences.sim import NUM_GAPS, gap_buckets
from learner.sif.codebooks import Quantised
from learner.sif.inputs import Inputs, slots_of
from learner.sif.tokenizer import Auxiliary, SampleTokenizer, slices_of

_INIT_STD, _BESIDE_FIELDS = 0.01, 0.1


class SIF(Reader):
    """Tokens, and the mixer over them.

    Args:
        settings: the model section.
        fields: F, declared.
        num_histories: H.

    Raises:
        ValueError: the heads do not divide D, or the codes have no room.
    """

    def __init__(self, settings: ModelSettings, fields: Sequence[FieldSettings], num_histories: int) -> None:
        super().__init__(num_histories, settings.dim)
        check_heads(settings.dim, settings.history_heads)
        self.tokenizer: SampleTokenizer | None = None
        self._num_fields, dim = len(fields), settings.dim
        if settings.sif.tokens == "codes":
            slots = slots_of(fields, settings.sif)
            self.tokenizer = SampleTokenizer(slots, sum(map(len, slots)), settings.sif, dim)
            length = self.tokenizer.index_TS.shape[1] * dim
            self.res_TXD = nn.Parameter(torch.randn(len(slots), length, dim) / length**0.5)
            self.res_TD = nn.Parameter(torch.zeros(len(slots), dim))
        self._tells_fields = settings.sif.tokens == "fields"
        num_plain = 1 + num_histories if self._tells_fields else 1
        self._num_slots = num_plain if self.tokenizer is None else self.tokenizer.num_slots
        # Views of one history have one outcome.
        num_outcomes = 1 if self._tells_fields else num_histories
        self.slots_TD = nn.Parameter(_INIT_STD * torch.randn(self._num_slots, dim))
        self.gaps = nn.Embedding(NUM_GAPS, dim)
        self.outcomes = nn.Embedding(1 + num_outcomes, dim)
        for embedding in (self.gaps, self.outcomes):
            nn.init.normal_(embedding.weight, std=_INIT_STD)
        self._pools = settings.sif.mixing == "pooled"
        self.mixer = Mixer(dim, settings.sif.num_blocks, settings.history_heads, settings.sif.mixing)
        if settings.deep != "sif":
            # Beside embeddings, which begin small, vectors with components of about one would drown them.
            nn.init.constant_(self.mixer.norm.weight, _BESIDE_FIELDS)

    @property
    def num_fields(self) -> int:
        """T; 1 where they are pooled."""
        return 1 if self._pools else self._num_slots

    def target(self, query: Query, own_BID: Tensor | None) -> Tensor:
        """The candidate's vectors, shape (B, T, D): W_res f of each slot.

        Args:
            query: the candidate.
            own_BID: the tokenizer's embeddings of its inputs; without codes there are none.
        """
        if self._tells_fields:
            return torch.cat([query.item_BD.unsqueeze(1), query.category_BHD], dim=1)
        if self.tokenizer is None:
            return query.item_BD.unsqueeze(1)
        assert own_BID is not None
        assert query.fields_BFD is not None
        emb_BID = torch.cat([query.fields_BFD, own_BID[:, self._num_fields :]], dim=1)
        return torch.einsum("btx,txd->btd", slices_of(emb_BID, self.tokenizer.index_TS), self.res_TXD) + self.res_TD

    def _past(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Vectors of what the user did, (B, H, L, T, D), and whether there is any, (B, H, L); H is 1 of views."""
        if self._tells_fields:
            views_BHLD = torch.cat([sequences.items_BHLD[:, :1], sequences.categories_BHLD], dim=1)
            return views_BHLD.transpose(1, 2).unsqueeze(1), sequences.mask_BHL[:, :1]
        if self.tokenizer is None:
            return sequences.items_BHLD.unsqueeze(3), sequences.mask_BHL
        assert sequences.codes_BHL is not None
        return self.tokenizer.decode(sequences.codes_BHL)

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """The target's sub-tokens, told by what was before."""
        target_BTD = self.target(query, sequences.own_BID) + self.outcomes.weight[0]
        past_BHLTD, is_there_BHL = self._past(sequences)
        gaps_BHL = sequences.gaps_BHL[:, : past_BHLTD.shape[1]]
        told_BHLD = self.gaps(gap_buckets(gaps_BHL)) + self.outcomes.weight[1:].unsqueeze(1)
        past_BHLTD = past_BHLTD + told_BHLD.unsqueeze(3)
        x_BRTD = torch.cat([target_BTD.unsqueeze(1), past_BHLTD.flatten(1, 2)], dim=1) + self.slots_TD
        mask_BR = torch.cat([is_there_BHL.new_ones(len(target_BTD), 1), is_there_BHL.flatten(1)], dim=1)
        mixed_BTD: Tensor = self.mixer(x_BRTD, mask_BR)
        return mixed_BTD

    def embed(self, inputs: Inputs | None) -> Tensor | None:
        """The tokenizer's embeddings of the candidate's inputs, (B, I, D)."""
        return None if self.tokenizer is None or inputs is None else self.tokenizer.embed(inputs)

    def auxiliary(self, query: Query, own_BID: Tensor | None) -> Auxiliary | None:
        """What the tokenizer adds to the loss; None of items alone."""
        if self.tokenizer is None or own_BID is None:
            return None
        return self.tokenizer.auxiliary(own_BID, self.target(query, own_BID))

    def update(self, found: Quantised) -> None:
        """Behind a step."""
        assert self.tokenizer is not None
        self.tokenizer.update(found)
