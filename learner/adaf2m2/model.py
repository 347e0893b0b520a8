"""AdaF2M2 around any interaction model.

    fields -> embeddings -+-> adapter weights w_i v_i -> g -> main logit      (y_adapt, eq. 4; served)
                          +-> k masked copies         -> g -> masked logits   (y_mask, eq. 2; training only)

Shape letters: B samples, F fields, D embedding length, K masked copies, U distinct rows, N feature occurrences.

    paper          here
    v_i            emb_BFD[:, i]
    [MASK]_i       FeatureMask.default_FD[i]
    p, beta, gamma FeatureMask.forward
    w_i, h         StateAdapter
    g              AdaF2M2.interaction
    alpha          learner.adaf2m2.loss.total_loss
"""

from collections.abc import Sequence

import msgspec
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.batch import Batch
from learner.adaf2m2.mask import FeatureMask
from learner.config import FieldSettings, ModelSettings
from learner.heads.build import build_heads
from learner.models.dcnv2 import DCNv2
from learner.models.fm import FM


class Output(msgspec.Struct, frozen=True):
    """Logits of one forward."""

    main_B: Tensor
    masked_KB: Tensor | None
    weight_BF: Tensor | None
    """The adapter's weights."""
    main_BT: Tensor | None = None
    """Of each task, where there are heads; `main_B` is the main one's."""
    masked_KBT: Tensor | None = None


def build_interaction(settings: ModelSettings, num_fields: int) -> nn.Module:
    """The interaction model that the settings name."""
    if settings.deep == "fm":
        return FM()
    return DCNv2(num_fields, settings.dim, num_cross_layers=settings.num_cross_layers, hidden=settings.hidden)


class AdaF2M2(nn.Module):
    """The dense part: adapter, mask vectors and g. Embedding rows live in a `Table` and are given per batch.

    Args:
        settings: the model section.
        fields: declared fields; those with `state` form r_ID.
        num_counts: C, counters of user and item together.
        num_tasks: T; 0: there are no heads, and g's own logit is the one of the only task.
        main: the main task.
    """

    def __init__(
        self,
        settings: ModelSettings,
        fields: Sequence[FieldSettings],
        num_counts: int,
        num_tasks: int = 0,
        main: int = 0,
    ) -> None:
        super().__init__()
        self.settings = settings
        num_fields = len(fields)
        self._state_fields = [i for i, field in enumerate(fields) if field.state]
        self.interaction = build_interaction(settings, num_fields)
        self.adapter = (
            StateAdapter(
                num_fields,
                len(self._state_fields),
                num_counts,
                settings.dim,
                settings.adapter_hidden,
                settings.adapter_bias,
            )
            if settings.adapter
            else None
        )
        self.mask = (
            FeatureMask(
                num_fields, settings.dim, num_masks=settings.num_masks, low=settings.mask_low, high=settings.mask_high
            )
            if settings.num_masks
            else None
        )
        self.heads, self._main = None, main
        if num_tasks:
            with torch.no_grad():
                width = self._representation(torch.zeros(1, num_fields, settings.dim)).shape[1]
            self.heads = build_heads(settings.heads, width, num_tasks)

    def _representation(self, emb_BFD: Tensor) -> Tensor:
        """What heads take, h_BH: the interaction model's own representation, or else the embeddings side by side."""
        own = getattr(self.interaction, "representation", None)
        h_BH: Tensor = emb_BFD.flatten(1) if own is None else own(emb_BFD)
        return h_BH

    def _fields(self, rows_UD: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pool each field's rows: emb_BFD, and the first-order terms first_BF."""
        pooled = nnf.embedding_bag(
            batch.occurrence_N, rows_UD, batch.offsets_BF, mode="sum", per_sample_weights=batch.weights_N
        ).view(len(batch), -1, self.settings.dim + 1)
        emb_BFD, wide_BF = pooled[..., :-1], pooled[..., -1]
        return emb_BFD, wide_BF if self.settings.wide else torch.zeros_like(wide_BF)

    def forward(self, rows_UD: Tensor, batch: Batch, mask_generator: torch.Generator | None = None) -> Output:
        """Main logits, and masked ones if a generator is given.

        The weighted sample and its masked copies go through g as one batch of B(1 + k), so g is shared as in the paper.
        """
        emb_BFD, first_BF = self._fields(rows_UD, batch)
        main_BFD = emb_BFD.detach() if self.settings.main_emb_grad == "none" and self.training else emb_BFD
        weight_BF = None
        if self.adapter is not None:
            id_BE = emb_BFD[:, self._state_fields].flatten(1)
            if self.settings.adapter_detach:
                id_BE = id_BE.detach()
            weight_BF = self.adapter(id_BE, batch.norms_B2, batch.counts_BC)
            main_BFD = main_BFD * weight_BF.unsqueeze(-1)
        if self.heads is not None:
            return self._by_task(emb_BFD, main_BFD, first_BF, weight_BF, mask_generator)
        if self.mask is None or mask_generator is None:
            return Output(self.interaction(main_BFD) + first_BF.sum(1), None, weight_BF)
        B = len(batch)
        masked_KBFD, keep_KBF1 = self.mask(emb_BFD, mask_generator)
        logits = self.interaction(torch.cat([main_BFD, masked_KBFD.flatten(0, 1)]))
        main_B, masked_KB = logits[:B], logits[B:].view(-1, B)
        # A masked field is unknown to the first-order part, too.
        masked_first_KB = (first_BF * keep_KBF1.squeeze(-1)).sum(-1)
        return Output(main_B + first_BF.sum(1), masked_KB + masked_first_KB, weight_BF)

    def _by_task(
        self,
        emb_BFD: Tensor,
        main_BFD: Tensor,
        first_BF: Tensor,
        weight_BF: Tensor | None,
        mask_generator: torch.Generator | None,
    ) -> Output:
        """The same with heads: a logit per task, to each of which the first-order terms are added."""
        assert self.heads is not None
        B, first_B1 = len(emb_BFD), first_BF.sum(1, keepdim=True)
        if self.mask is None or mask_generator is None:
            main_BT = self.heads(self._representation(main_BFD)) + first_B1
            return Output(main_BT[:, self._main], None, weight_BF, main_BT)
        masked_KBFD, keep_KBF1 = self.mask(emb_BFD, mask_generator)
        logits = self.heads(self._representation(torch.cat([main_BFD, masked_KBFD.flatten(0, 1)])))
        main_BT = logits[:B] + first_B1
        masked_first_KB1 = (first_BF * keep_KBF1.squeeze(-1)).sum(-1, keepdim=True)
        masked_KBT = logits[B:].view(-1, B, logits.shape[1]) + masked_first_KB1
        return Output(main_BT[:, self._main], masked_KBT[..., self._main], weight_BF, main_BT, masked_KBT)
