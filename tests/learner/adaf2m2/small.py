"""A small batch for the deep part: one row of the table per field and sample."""

import torch

from learner.adaf2m2.batch import Batch
from learner.config import FieldSettings

FIELDS = [
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("age", "user", "categorical"),
]


def batch_of(num_samples: int, dim: int) -> tuple[Batch, torch.Tensor]:
    """One row per field and sample."""
    torch.manual_seed(1)
    n = num_samples * len(FIELDS)
    batch = Batch(
        torch.arange(1, n + 1),
        torch.arange(n),
        torch.arange(n),
        torch.ones(n),
        torch.rand(num_samples, 2),
        torch.randint(0, 50, (num_samples, 4)).float(),
    )
    return batch, torch.randn(n, dim + 1)
