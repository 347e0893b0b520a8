"""Settings of the model and of how it learns; msgspec only, no torch."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PositiveInt = Annotated[int, Meta(gt=0, le=1_000_000_000)]
Width = Annotated[int, Meta(gt=0, le=1 << 16)]
Rate = Annotated[float, Meta(gt=0, le=100)]
Logit = Annotated[float, Meta(ge=-1000, le=1000)]
Seed = Annotated[int, Meta(ge=0, lt=1 << 32)]
Probability = Annotated[float, Meta(ge=0, le=1)]
TaskName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]


Values = Literal["float32", "float16", "bfloat16"]
"""What the values of tables are rounded to where they are published."""
Device = Literal["auto", "cpu", "cuda"]
Norm = Literal["log", "sqrt", "square", "raw"]
"""What is made of a norm: ln n, n^1/2, n^2, n itself."""


class FieldSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of a sample."""

    name: Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,256}\Z")]
    """`user_id` and `item_id` are the event's own ids; any other name is looked up in the event's `features`."""
    group: Literal["user", "item", "context"]
    kind: Literal["id", "categorical", "multi", "numeric"]
    """`multi` takes a list and averages it; `numeric` is learned in buckets, half an octave of 1 + |x| wide."""
    state: bool = False
    """Whether the field's embedding is part of the adapter's r_ID."""
    min_count: PositiveInt = 1
    """An id gets a row of its own from this occurrence on."""


class HistorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user did lately, which samples carry as of their impression."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
    actions: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Feedback that appends its item."""
    length: Annotated[int, Meta(gt=0, le=1000)] = 50
    """Entries that a sample carries at most, 24 bytes each; an impression makes two or three samples. Redis keeps twice
    as many per user."""
    by: str = ""
    """Field of the item, of kind `id` or `categorical`, whose value is kept beside each item as its category; or `*`:
    codes of the whole sample that was shown (`model.sif`). With another one the history begins anew."""


BY_SAMPLE = "*"
"""What `by` is where the whole sample is kept."""

Deep = Literal["none", "fm", "deepfm", "dnn", "youtubednn", "afn", "dcnv2", "dcnv2_stacked", "eulernet", "sif"]
"""Interaction models; `learner/models/catalog.py` makes each, and its file there names the paper."""


class HeadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Heads of the deep part for several tasks: what turns its representation into one logit per task."""

    kind: Literal["none", "shared_bottom", "mmoe", "snr", "ple"] = "none"
    """none: the deep part learns the main task alone. `ple` with one layer is CGC (`learner/heads`)."""
    layers: Annotated[int, Meta(gt=0, le=8)] = 1
    """Layers of experts, of `snr` (at least 2) and `ple`."""
    experts: Annotated[int, Meta(gt=0, le=64)] = 4
    """Experts of `mmoe`, sub-networks of each layer of `snr`; of `ple` those that all tasks share."""
    own_experts: Annotated[int, Meta(ge=0, le=64)] = 2
    """Experts that each task has for itself in a layer of `ple`."""
    expert_width: Width = 32
    tower: Annotated[tuple[Width, ...], Meta(max_length=8)] = (16,)
    """Widths of each task's tower, before its logit."""
    gate_sparsity: Annotated[float, Meta(ge=0, le=100)] = 1e-4
    """Of `snr`: weight of the expected share of open connections in the loss (lambda of its eq. 8)."""

    def __post_init__(self) -> None:
        if self.kind == "snr" and self.layers < 2:
            raise ValueError(f"model.heads: snr routes between layers of sub-networks: layers >= 2, got {self.layers}")


Mixing = Literal["factorised", "pooled", "flat"]


class SifSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Past samples as tokens, of `model.history = "sif"` (SIF, arXiv 2604.15650; `learner/sif`)."""

    tokens: Literal["codes", "items", "fields"] = "codes"
    """Tokens of a past sample: `codes`, those of the whole sample, kept by histories with `by = "*"`; what these are
    compared with are `items`, its item alone, and `fields`, its item and the field in `by` of each of the histories,
    which are then of the same actions."""
    mixing: Mixing = "factorised"
    """How the mixer lets sub-tokens attend to each other: inside each sample, then across samples (SIF-Mixer);
    `pooled`, averaged before; `flat`, all to all, in (L T)^2 steps."""
    fields_per_token: Annotated[int, Meta(gt=0, le=256)] = 8
    """B, fields of one group (user, item, context, cross) that make one sub-token."""
    crosses: tuple[tuple[str, str], ...] = ()
    """Pairs of fields whose pairs of values are further inputs, of the group cross."""
    buckets: Annotated[int, Meta(ge=16, le=1 << 20)] = 1 << 14
    """R, rows of the tokenizer's own table, in which values lie by their hash; whoever encodes has all of them."""
    levels: Annotated[int, Meta(gt=0, le=8)] = 2
    """M, codes of one sub-token. Sub-tokens times levels times bits are at most 60."""
    code_bits: Annotated[int, Meta(ge=1, le=8)] = 6
    """log2 V of a codebook."""
    num_blocks: Annotated[int, Meta(gt=0, le=16)] = 2
    """N, blocks of the mixer; heads of attention: `model.history_heads`."""
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    """Of the codebooks' moving averages, per micro-batch."""
    restart_batches: PositiveInt = 500
    """A code that nothing was near to for so many micro-batches begins anew."""
    commitment: Annotated[float, Meta(ge=0, le=1000)] = 0.25
    """lambda in L_VQ: how much vectors are drawn to their codes."""
    vq_weight: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """beta, of L_VQ."""
    align_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.25
    """gamma, of L_align: how much W_res of the target is drawn to what its codes would be."""
    token_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.1
    """delta, of L_token, the label as the codes alone say it; 1 until the first version is frozen."""
    entropy_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.01
    """Of the entropy of the codes' usage, which is to be high."""
    freeze_samples: PositiveInt = 20_000
    """Samples learned between two frozen versions of tokenizer and codebooks; samples are encoded by a frozen one."""


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which parts the model has, and AdaF2M2 around the deep part's interaction model g.

    logit = gated fast components + gated deep logit (`learner/fast`, `learner/adaf2m2`). Masks (`num_masks`) and
    adapter (`adapter`) are each on or off, around any g. Where the paper leaves something open there is a setting, with
    a default that no measurement so far speaks against. One thing is no setting: masked copies go through the whole of
    g, its last layer, too, as in eq. 2; a last layer of their own is not in the paper.
    """

    fast: bool = True
    """The fast part: learns from each sample by itself."""
    deep: Deep = "none"
    """g(.), the deep part: what turns field embeddings into a logit, in PyTorch, learned in micro-batches."""
    dim: Width = 16
    """Length of each field's embedding in the deep part."""
    hidden: Annotated[tuple[Width, ...], Meta(max_length=16)] = (128, 64)
    """Widths of g's hidden layers, in every model that has some (all but FM and EulerNet)."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of hidden units dropped in training (not in FM and YouTubeDNN; in EulerNet, of what a layer takes)."""
    layer_norm: bool = True
    """Normalise each sample by itself where AFN's and EulerNet's papers normalise batches; AFN diverges without."""
    num_cross_layers: Annotated[int, Meta(gt=0, le=64)] = 2
    """Cross layers of DCN-V2."""
    cross_rank: Annotated[int, Meta(ge=0, le=1 << 16)] = 0
    """Rank of their matrices; 0: full."""
    cross_experts: Annotated[int, Meta(gt=0, le=64)] = 1
    """How many low-rank matrices are mixed in each cross layer; more than one needs a rank."""
    log_neurons: Width = 64
    """Logarithmic neurons of AFN, crosses that it can learn."""
    afn_ensemble: bool = False
    """AFN+: AFN beside a DNN."""
    euler_orders: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=16)] = (8,)
    """Order vectors of each of EulerNet's layers; as many as fields begin with one field each."""
    wide: bool = False
    """Add a learned first-order weight per feature to g also where its paper has none (FM and DeepFM have it anyway).
    The fast part has its own."""
    adapter: bool = True
    """Weigh the deep part's fields by the state of user and item (AdaF2M2 3.4)."""
    adapter_hidden: Annotated[int, Meta(ge=0, le=1 << 16)] = 64
    """Width of the adapter's hidden layer; 0 for none."""
    adapter_bias: Logit = 2.0
    """Initial bias of the gates: sigmoid(2) = .88; 0 is the paper's literal reading."""
    adapter_scale: Annotated[float, Meta(gt=0, le=100)] = 1.0
    """Weights are this times a sigmoid: 1 as in the paper; 2, with `adapter_bias = 0`, begins with weights of 1."""
    adapter_detach: bool = False
    """Keep the adapter's gradient out of the embeddings it reads; norms and counts are given, and have none. Off: over
    epochs letting it in brings DCN-V2 .001 AUC (RESULTS.md, table 3 by option), in a stream it is all the same."""
    adapter_norms: Annotated[tuple[Norm, ...], Meta(max_length=4)] = ("log", "sqrt", "square")
    """How the norms of user and item embedding enter r_norm; none: not at all."""
    adapter_counts: bool = True
    """Whether r_count is there: log(1 + count) of every counter of user and item."""
    adapter_first_order: bool = False
    """Weigh first-order terms, too, by the weights of their fields; the paper speaks of embeddings alone."""
    num_masks: Annotated[int, Meta(ge=0, le=64)] = 1
    """k, masked forwards per sample; 0 turns the auxiliary loss off."""
    mask_low: Probability = 0.1
    """beta, least probability that a field is masked."""
    mask_high: Probability = 0.5
    """gamma, greatest probability that a field is masked."""
    mask_scope: Literal["copy", "field"] = "copy"
    """What a probability is drawn for: each copy of each sample, as in the paper, or each field of each copy."""
    aux_weight: Annotated[float, Meta(ge=0, le=1000)] = 0.2
    """alpha in L = L_main + alpha L_aux."""
    aux_reduction: Literal["sum", "mean"] = "sum"
    """Over the k masked forwards; eq. 3 is a sum."""
    main_emb_grad: Literal["full", "none"] = "full"
    """Whether L_main trains the embeddings, too (3.4), or L_aux alone does (3.3)."""
    id_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """What AdaF2M2 is compared with: probability that an id's embedding is 0 in the main forward of a sample that is
    learned (after DropoutNet, Volkovs et al., NIPS 2017); 0: never."""

    history: Literal["none", "mean", "din", "multi_din", "dmt", "sim", "sif"] = "none"
    """What the deep part makes of `[[histories]]` (`learner/models/sequences`): vectors that are more fields of g."""
    history_items: Annotated[int, Meta(gt=0, le=1000)] = 20
    """Of each history the newest so many entries; of `sim` the newest that have the candidate's category."""
    history_hidden: Annotated[tuple[Width, ...], Meta(max_length=8)] = (36,)
    """Widths of the activation units' hidden layers, of `din` and `multi_din`."""
    history_heads: Annotated[int, Meta(gt=0, le=64)] = 2
    """Heads of attention, of `dmt`, `sim` and `sif`."""
    sif: SifSettings = SifSettings()
    heads: HeadSettings = HeadSettings()
    """Where the learner learns all tasks (`learner.tasks`): the deep part's logits of each."""

    def __post_init__(self) -> None:
        if not self.fast and self.deep == "none":
            raise ValueError("model: fast is false and deep is 'none', so there is no model; turn one of them on")
        if self.mask_low > self.mask_high:
            raise ValueError(f"model: mask_low {self.mask_low} must be <= mask_high {self.mask_high}")
        if self.main_emb_grad == "none" and self.num_masks == 0:
            raise ValueError("model: main_emb_grad = 'none' needs num_masks >= 1, or nothing trains the embeddings")
        if self.cross_experts > 1 and not self.cross_rank:
            raise ValueError(
                f"model: cross_experts {self.cross_experts} needs a cross_rank; matrices of full rank are not mixed"
            )
        if len(set(self.adapter_norms)) < len(self.adapter_norms):
            raise ValueError(f"model: adapter_norms names one twice, {', '.join(self.adapter_norms)}; leave one out")


class BalanceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the deep part's losses of several tasks are put together."""

    method: Literal["fixed", "uncertainty", "pcgrad"] = "fixed"
    """fixed: a weighted sum. uncertainty: weights are learned (Kendall et al. 2018). pcgrad: a weighted sum in which
    gradients that conflict are projected (Yu et al. 2020)."""
    weights: Mapping[TaskName, Annotated[float, Meta(ge=0, le=1000)]] = {}
    """By task; 1 for one that is not named. Of `fixed` and `pcgrad`."""


class LearnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One-pass learning: blocks, optimisers of the deep part, tables."""

    block: Annotated[int, Meta(gt=0, le=1 << 16)] = 2048
    """Samples taken at a time at most; without a deep part it decides nothing but speed."""
    micro_batch: Annotated[int, Meta(gt=0, le=1 << 16)] = 256
    """Samples per step of the deep part, at most a block."""
    wait_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.2
    """For how long the deep part waits for a micro-batch to be full, before it learns from what there is."""
    embedding_lr: Rate = 0.1
    """Adagrad, embedding rows of the deep part."""
    dense_lr: Rate = 1e-3
    """Adam, everything else of it."""
    embedding_init: Annotated[float, Meta(ge=0, le=100)] = 0.01
    """Standard deviation of a new row of it."""
    embedding_ttl_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Rows unseen for this long (event time) are evicted; 0: never."""
    delayed_feedback: Literal["undo", "none", "fnw", "fnc"] = "undo"
    """What becomes of a negative whose positive comes later, as a correction: `undo` takes what was learned of the
    negative back; `none` learns the positive on top of it. For `join.mode = "immediate"` (Ktena et al., RecSys 2019)
    also `fnw`, which weighs samples by importance, and `fnc`, which learns the biased rate and corrects predictions."""
    tasks: Literal["main", "all"] = "main"
    """Learn the main task's labels alone, or those of every task: each has a fast part of its own, with tables of its
    own, and a logit of the deep part if `model.heads` says so."""
    balance: BalanceSettings = BalanceSettings()
    new_model: bool = False
    """Where the checkpoint's model was made with other settings, begin a new one, behind the samples that it had
    learned from; else the learner refuses."""
    seed: Seed = 7
    device: Device = "cpu"
    """Where the deep part computes: `auto` takes a GPU where PyTorch finds one. All else computes on the CPU."""
    deep_rows: Literal["auto", "host", "device"] = "auto"
    """Where the deep part's rows lie: in the host's memory, from where those of a step are sent, and to where their
    gradients come back; or in the device's, 2 (`model.dim` + 1) floats each. `auto`: in a GPU's, where there is one."""
    cuda_graphs: bool = True
    """On a GPU, with rows in its memory, record the deep part's step once and have it run again as a whole."""
    num_threads: Annotated[int, Meta(gt=0, le=1024)] = 1
    """Threads of torch; more than the spare cores slow everything down."""
    processes: Annotated[int, Meta(gt=0, le=256)] = 1
    """Processes that learn: each the samples of its own users, whose rows it alone has. What all users share, as items
    and crosses, each has a copy of."""
    exchange_samples: PositiveInt = 1024
    """Of several processes: samples of all of them between two exchanges of what is shared. What one has learned of an
    item the others know at the latest so many samples later; fewer cost time, more cost accuracy."""

    def __post_init__(self) -> None:
        if self.micro_batch > self.block:
            raise ValueError(f"learner.micro_batch must be <= block, {self.block}, got {self.micro_batch}")
