"""ID dropout: what feature masks are compared with.

After DropoutNet (Volkovs, Yu & Poutanen, NIPS 2017), which drops the inputs of users and items at random so that the
model learns to do without. Theirs are fixed vectors of a former model, whose product is what is learned. Here the ids'
embeddings are dropped, and the loss is the one on labels: ids alone, one forward, zeros and no learned vector instead.
"""

import torch
from torch import Tensor


def kept_ids(num_samples: int, is_id_F: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """What is kept of each sample's fields: 0 for an id that is dropped, 1 else, each drawn by itself.

    Args:
        num_samples: B.
        is_id_F: bool, which fields are ids.
        probability: of dropping one.
        generator: what is drawn from.

    Returns:
        float32, shape (B, F).

    >>> kept_ids(2, torch.tensor([True, False]), 1.0, torch.Generator().manual_seed(0)).tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    device = generator.device
    drawn_BF = torch.rand(num_samples, len(is_id_F), generator=generator, device=device).to(is_id_F.device)
    return (~is_id_F | (drawn_BF >= probability)).float()
