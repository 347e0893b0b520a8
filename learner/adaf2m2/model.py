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
from learner.adaf2m2.dropout import kept_ids
from learner.adaf2m2.kernels.pooling import pooled
from learner.adaf2m2.mask import FeatureMask, weighed
from learner.config import BY_SAMPLE, FieldSettings, HistorySettings, ModelSettings
from learner.heads.build import build_heads
from learner.models.catalog import build_interaction
from learner.models.sequences.catalog import build_reader
from learner.models.sequences.reader import Query, Sequences
from learner.models.sequences.sif import SIF
from learner.sif.tokenizer import Auxiliary, SampleTokenizer


class Output(msgspec.Struct, frozen=True):
    """Logits of one forward."""

    main_B: Tensor
    masked_KB: Tensor | None
    weight_BF: Tensor | None
    """The adapter's weights."""
    main_BT: Tensor | None = None
    """Of each task, where there are heads; `main_B` is the main one's."""
    masked_KBT: Tensor | None = None
    tokens: Auxiliary | None = None
    """What a tokenizer of samples adds to the loss, in training."""


class AdaF2M2(nn.Module):
    """The dense part: adapter, mask vectors and g. Embedding rows live in a `Table` and are given per batch.

    Args:
        settings: the model section.
        fields: declared fields; those with `state` form r_ID.
        num_counts: C, counters of user and item together.
        num_tasks: T; 0: there are no heads, and g's own logit is the one of the only task.
        main: the main task.
        histories: H, that are read.
    """

    is_id_F: Tensor
    state_fields: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        fields: Sequence[FieldSettings],
        num_counts: int,
        num_tasks: int = 0,
        main: int = 0,
        histories: Sequence[HistorySettings] = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        of_state = torch.tensor([i for i, field in enumerate(fields) if field.state], dtype=torch.int64)
        self.register_buffer("state_fields", of_state, persistent=False)
        self.register_buffer("is_id_F", torch.tensor([field.kind == "id" for field in fields]), persistent=False)
        self.reader = build_reader(settings, fields, len(histories))
        num_read = 0 if self.reader is None else self.reader.num_fields
        names = [field.name for field in fields]
        self._item = names.index("item_id") if self.reader is not None else -1
        self._categories = [-1 if history.by in ("", BY_SAMPLE) else names.index(history.by) for history in histories]
        self.interaction = build_interaction(settings, len(fields) + num_read)
        num_fields = num_read if num_read and self.interaction.takes_read_alone else len(fields) + num_read
        self.has_first_order = settings.wide or self.interaction.needs_first_order
        self.adapter = self._adapter(len(fields), num_counts) if settings.adapter else None
        self.mask = self._mask(len(fields)) if settings.num_masks else None
        self.heads, self._main = None, main
        if num_tasks:
            with torch.no_grad():
                width = self.interaction.representation(torch.zeros(1, num_fields, settings.dim)).shape[1]
            self.heads = build_heads(settings.heads, width, num_tasks)

    def _adapter(self, num_fields: int, num_counts: int) -> StateAdapter:
        settings = self.settings
        return StateAdapter(
            num_fields,
            len(self.state_fields),
            num_counts if settings.adapter_counts else 0,
            settings.dim,
            settings.adapter_hidden,
            settings.adapter_bias,
            norms=settings.adapter_norms,
            scale=settings.adapter_scale,
        )

    def _mask(self, num_fields: int) -> FeatureMask:
        settings = self.settings
        return FeatureMask(
            num_fields,
            settings.dim,
            num_masks=settings.num_masks,
            low=settings.mask_low,
            high=settings.mask_high,
            scope=settings.mask_scope,
        )

    def _fields(self, rows_UD: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Pool each field's rows: emb_BFD, and the first-order terms first_BF if g has them."""
        emb_XD, first_X = pooled(rows_UD, batch.occurrence_N, batch.offsets_BF, batch.weights_N)
        emb_BFD, first_BF = emb_XD.view(len(batch), -1, self.settings.dim), first_X.view(len(batch), -1)
        return emb_BFD, first_BF if self.has_first_order else None

    def _adapted(
        self, emb_BFD: Tensor, first_BF: Tensor | None, batch: Batch
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the main forward takes: embeddings, first-order terms, and the weights that embeddings are to get."""
        main_BFD = emb_BFD.detach() if self.settings.main_emb_grad == "none" and self.training else emb_BFD
        if self.adapter is None:
            return main_BFD, first_BF, None
        id_BE = main_BFD.index_select(1, self.state_fields).flatten(1)
        if self.settings.adapter_detach:
            id_BE = id_BE.detach()
        weight_BF = self.adapter(id_BE, batch.norms_B2, batch.counts_BC, batch.is_there_B)
        if self.settings.adapter_first_order and first_BF is not None:
            first_BF = first_BF * weight_BF
        return main_BFD, first_BF, weight_BF

    def _sequences(self, rows_UD: Tensor, batch: Batch) -> Sequences | None:
        """Embeddings of what the reader is given."""
        if self.reader is None or batch.histories is None:
            return None
        # Entries stand at the front: what no sample of the batch has need not be read.
        told = batch.histories.newest()
        emb_UD = rows_UD[:, :-1].contiguous()
        items, categories = (nnf.embedding(index, emb_UD) for index in (told.items_BHL, told.categories_BHL))
        own_BID = self.reader.embed(told.inputs) if isinstance(self.reader, SIF) else None
        return Sequences(items, categories, told.mask_BHL, told.gaps_BHL, told.codes_BHL, own_BID)

    def _query(self, emb_BFD: Tensor) -> Query:
        nothing_BD = torch.zeros_like(emb_BFD[:, 0])
        category_BHD = torch.stack([emb_BFD[:, c] if c >= 0 else nothing_BD for c in self._categories], dim=1)
        return Query(emb_BFD[:, self._item], category_BHD, emb_BFD)

    def _tokens(self, main_BFD: Tensor, sequences: Sequences | None) -> Auxiliary | None:
        """What the tokenizer adds to the loss of samples that are learned."""
        if not self.training or sequences is None or not isinstance(self.reader, SIF):
            return None
        return self.reader.auxiliary(self._query(main_BFD), sequences.own_BID)

    @property
    def tokenizer(self) -> SampleTokenizer | None:
        """What makes codes of samples, if the reader reads such."""
        return self.reader.tokenizer if isinstance(self.reader, SIF) else None

    def update(self, output: Output) -> None:
        """Behind a step: what is moved by averages, and not by gradients."""
        if output.tokens is not None and isinstance(self.reader, SIF):
            self.reader.update(output.tokens.quantised)

    def _read(self, emb_BFD: Tensor, sequences: Sequences | None) -> Tensor:
        """The fields with what is read of the histories behind them; a masked copy asks as what is left of it."""
        if self.reader is None or sequences is None:
            return emb_BFD
        sequences = sequences.repeated(len(emb_BFD) // len(sequences.mask_BHL))
        read_BXD: Tensor = self.reader(self._query(emb_BFD), sequences)
        return read_BXD if self.interaction.takes_read_alone else torch.cat([emb_BFD, read_BXD], dim=1)

    def forward(self, rows_UD: Tensor, batch: Batch, mask_generator: torch.Generator | None = None) -> Output:
        """Main logits; if a generator is given, also masked ones, and ids are dropped from the main ones.

        The weighted sample and its masked copies go through g as one batch of X = B(1 + k), so g is shared as in the
        paper. Masked copies are of the whole sample, whatever ids are dropped from the main one.
        """
        emb_BFD, first_BF = self._fields(rows_UD, batch)
        B, given = len(batch), (emb_BFD, first_BF)
        if mask_generator is not None and self.settings.id_dropout:
            keep_BF = kept_ids(B, self.is_id_F, self.settings.id_dropout, mask_generator)
            given = emb_BFD * keep_BF.unsqueeze(-1), None if first_BF is None else first_BF * keep_BF
        main_BFD, first_XF, weight_BF = self._adapted(*given, batch)
        if self.mask is None or mask_generator is None:
            all_XFD = weighed(main_BFD, weight_BF)
        else:
            all_XFD, keep_KBF = self.mask.beside(main_BFD, weight_BF, emb_BFD, mask_generator)
            if first_XF is not None and first_BF is not None:
                # A masked field is unknown to the first-order part, too.
                first_XF = torch.cat([first_XF, (first_BF * keep_KBF).flatten(0, 1)])
        sequences = self._sequences(rows_UD, batch)
        tokens = self._tokens(all_XFD[:B], sequences)
        logits = self._logits(self._read(all_XFD, sequences), first_XF)
        main, masked = logits[:B], logits[B:].view(-1, B, *logits.shape[1:]) if len(logits) > B else None
        if self.heads is None:
            return Output(main, masked, weight_BF, tokens=tokens)
        of_main = None if masked is None else masked[..., self._main]
        return Output(main[:, self._main], of_main, weight_BF, main, masked, tokens)

    def of_pooled(self, emb_BFD: Tensor, first_BF: Tensor, norms_B2: Tensor, counts_BC: Tensor) -> Tensor:
        """Main logits of embeddings and first-order terms that are pooled already, shape (B,); (B, T) with heads."""
        nothing = torch.zeros(0)
        batch = Batch(nothing, nothing, nothing, nothing, norms_B2, counts_BC)
        # What is given is asked for even where it is nothing to the model.
        main_BFD, main_first_BF, weight_BF = self._adapted(
            emb_BFD, first_BF if self.has_first_order else 0 * first_BF, batch
        )
        return self._logits(weighed(main_BFD, weight_BF), main_first_BF)

    def _logits(self, emb_XFD: Tensor, first_XF: Tensor | None) -> Tensor:
        """Of embeddings and first-order terms: shape (X,); with heads a logit per task, (X, T)."""
        if self.heads is None:
            logit_X: Tensor = self.interaction(emb_XFD)
            return logit_X if first_XF is None else logit_X + first_XF.sum(1)
        by_task: Tensor = self.heads(self.interaction.representation(emb_XFD))
        return by_task if first_XF is None else by_task + first_XF.sum(1, keepdim=True)
