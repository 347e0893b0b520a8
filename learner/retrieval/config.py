"""Settings of the two-tower model, and its variants of AdaF2M2's Table 4; msgspec only."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learner.config import Logit, PositiveInt, Probability, Rate, Seed, Width

Variant = Literal["base", "masks", "adapter", "full", "ssl"]
VARIANTS: tuple[Variant, ...] = ("base", "masks", "adapter", "full", "ssl")
Weight = Annotated[float, Meta(ge=0, le=1000)]


class TwoTowerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two towers, AdaF2M2 on each of them, and how they learn."""

    dim: Width = 32
    """D, length of each field's embedding."""
    hidden: Annotated[tuple[Width, ...], Meta(max_length=16)] = (64,)
    """Widths of each tower's hidden layers."""
    out: Width = 32
    """E, length of user and item vectors, which are of norm 1."""
    temperature: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """tau: a score is the inner product of the vectors over it."""
    loss: Literal["softmax", "bce"] = "softmax"
    """`softmax`: each positive against the other items of its batch; `bce`: each sample's label by itself."""
    log_q: bool = True
    """Correct negatives for how often their items come (Yi et al., RecSys 2019)."""
    num_uniform: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    """Negatives of a batch that are drawn uniformly from all items, besides those that are in it (Yang et al., WWW
    2020). A stream in which users come in sessions needs them: there a batch has few users, and few negatives."""
    adapter: bool = True
    """Weigh each tower's fields by the state of its own side (AdaF2M2, section 3.4)."""
    adapter_hidden: Annotated[int, Meta(ge=0, le=1 << 16)] = 64
    adapter_bias: Logit = 2.0
    adapter_detach: bool = True
    """Keep the adapter's gradient out of the embeddings it reads."""
    num_masks: Annotated[int, Meta(ge=0, le=64)] = 1
    """k, masked copies of each batch (section 3.3); 0: none."""
    mask_low: Probability = 0.1
    mask_high: Probability = 0.5
    aux_weight: Weight = 0.2
    """alpha, of the sum of the masked copies' losses."""
    ssl_weight: Weight = 0.0
    """Of the self-supervised loss on items (Yao et al., CIKM 2021); 0: none."""
    ssl_temperature: Annotated[float, Meta(gt=0, le=100)] = 0.1
    embedding_lr: Rate = 0.05
    """Adagrad, embeddings."""
    dense_lr: Rate = 1e-3
    """Adam, everything else."""
    embedding_init: Annotated[float, Meta(ge=0, le=100)] = 0.05
    """Standard deviation of embeddings at first."""
    batch: PositiveInt = 1024
    """B, samples of a step."""
    seed: Seed = 7


def variant_of(settings: TwoTowerSettings, variant: Variant) -> TwoTowerSettings:
    """The settings with the parts of a variant on and the others off.

    Args:
        settings: what the parts are like where they are on; parts that they leave out have k = 1, an SSL weight of .1.
        variant: which of them are on.

    >>> variant = variant_of(TwoTowerSettings(num_masks=2), "masks")
    >>> variant.adapter, variant.num_masks, variant.ssl_weight
    (False, 2, 0.0)
    """
    return msgspec.structs.replace(
        settings,
        adapter=variant in ("adapter", "full"),
        num_masks=(settings.num_masks or 1) if variant in ("masks", "full") else 0,
        ssl_weight=(settings.ssl_weight or 0.1) if variant == "ssl" else 0.0,
    )
