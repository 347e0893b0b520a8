"""What every interaction model g is: field embeddings -> logit. It says what it needs besides."""

from typing import ClassVar

from torch import Tensor, nn


class Interaction(nn.Module):
    """g(.) of AdaF2M2 (section 3.2): all that stands behind the embedding layer.

    It is given whole fields, multi-valued ones pooled already, and works on each sample by itself: nothing of it may
    mix samples, because weighted samples and their masked copies come in one batch. So no batch normalisation.

    Shape:
        emb_BFD -> logit_B
    """

    needs_first_order: ClassVar[bool] = False
    """Whether the paper's model has a learned weight per feature, too: AdaF2M2 adds these, as they are of rows."""

    takes_read_alone: ClassVar[bool] = False
    """Whether it is given what is read of histories (`learner/models/sequences`), and no fields."""

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        raise NotImplementedError("each model has its own")

    def representation(self, emb_BFD: Tensor) -> Tensor:
        """What heads of several tasks take, h_BH: here the embeddings side by side, else what g's own end takes."""
        return emb_BFD.flatten(1)
