"""One side of the two-tower model: fields -> a vector, by its own state alone.

An adapter that sees both sides would make item vectors depend on who asks; one per tower keeps them to be computed
beforehand (AdaF2M2, section 3.4, applied to the retrieval models of section 4).

Legend: B entities, F fields, D length of embeddings, E length of vectors, K masked copies.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from learner.adaf2m2.adapter import StateAdapter
from learner.adaf2m2.mask import FeatureMask
from learner.models.mlp import hidden_layers
from learner.retrieval.config import TwoTowerSettings

NUM_COUNTS = 2
"""Impressions and positives."""
_ID = 0


class Tower(nn.Module):
    """Embeddings of fields -> vectors of norm 1.

    Args:
        settings: of the model.
        num_fields: F; the first field is the id, whose embedding and norm the adapter reads.

    Shape:
        emb_BFD, counts_B2 -> vector_BE

    >>> tower = Tower(TwoTowerSettings(dim=4, out=8), 3)
    >>> tower(torch.ones(5, 3, 4), torch.zeros(5, 2)).shape
    torch.Size([5, 8])
    """

    def __init__(self, settings: TwoTowerSettings, num_fields: int) -> None:
        super().__init__()
        self._detach = settings.adapter_detach
        self.adapter = (
            StateAdapter(num_fields, 1, NUM_COUNTS, settings.dim, settings.adapter_hidden, settings.adapter_bias)
            if settings.adapter
            else None
        )
        self.mask = (
            FeatureMask(
                num_fields,
                settings.dim,
                num_masks=settings.num_masks,
                low=settings.mask_low,
                high=settings.mask_high,
            )
            if settings.num_masks
            else None
        )
        layers, width = hidden_layers(num_fields * settings.dim, settings.hidden)
        self.layers = layers.append(nn.Linear(width, settings.out))

    def weights(self, emb_BFD: Tensor, counts_B2: Tensor) -> Tensor | None:
        """The adapter's weights, shape (B, F), or None without one."""
        if self.adapter is None:
            return None
        id_BD = emb_BFD[:, _ID]
        # The adapter takes two norms, of user and item; a tower has one, and gives it twice.
        norms_B2 = id_BD.detach().norm(dim=1, keepdim=True).expand(-1, 2)
        weight_BF: Tensor = self.adapter(id_BD.detach() if self._detach else id_BD, norms_B2, counts_B2)
        return weight_BF

    def encode(self, emb_BFD: Tensor) -> Tensor:
        """Vectors of embeddings as they are, shape (..., B, E)."""
        vector_BE: Tensor = nnf.normalize(self.layers(emb_BFD.flatten(-2)), dim=-1)
        return vector_BE

    def forward(self, emb_BFD: Tensor, counts_B2: Tensor) -> Tensor:
        """Vectors of weighed embeddings: those that are served."""
        weight_BF = self.weights(emb_BFD, counts_B2)
        return self.encode(emb_BFD if weight_BF is None else emb_BFD * weight_BF.unsqueeze(-1))

    def masked(self, emb_BFD: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors of the masked copies, not weighed (eq. 2); shape (K, B, E), of which K may be 0."""
        if self.mask is None:
            return emb_BFD.new_zeros(0, len(emb_BFD), 1)
        masked_KBFD, _ = self.mask(emb_BFD, generator)
        return self.encode(masked_KBFD)
