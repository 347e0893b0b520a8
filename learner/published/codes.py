"""What samples are encoded by, for whoever joins them."""

import numpy as np
from safetensors.numpy import save

from learner.learner import Learner
from learner.published.changed import AnyLearner
from learner.sif.frozen import made_for


def frozen_codes(learner: AnyLearner) -> tuple[int, bytes] | None:
    """The tokenizer's newest frozen version, and it as arrays (safetensors) that say what they were made for (uint64);
    None if there is none."""
    if not isinstance(learner, Learner):
        return None  # several have no tokenizer
    tokenizer = None if learner.deep is None else learner.deep.dense.tokenizer
    arrays = {} if tokenizer is None else tokenizer.frozen()
    if not arrays:
        return None
    whom = made_for(learner.recipe.fields, learner.recipe.model.sif)
    return int(arrays["version"][0]), save({**arrays, "made_for": np.array([whom], np.uint64)})
