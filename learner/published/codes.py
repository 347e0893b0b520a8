"""What samples are encoded by, for whoever joins them, and how well, for whoever watches."""

from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from learner.learner import Learner
from learner.published.changed import AnyLearner
from learner.sif.frozen import made_for
from learner.sif.usage import CodeUsage

if TYPE_CHECKING:
    from learner.sif.tokenizer import SampleTokenizer


def _tokenizer_of(learner: AnyLearner) -> "SampleTokenizer | None":
    # Several have no tokenizer.
    return learner.deep.dense.tokenizer if isinstance(learner, Learner) and learner.deep is not None else None


def code_usage(learner: AnyLearner) -> CodeUsage | None:
    """Of the learner's tokenizer; None if it has none."""
    tokenizer = _tokenizer_of(learner)
    if tokenizer is None:
        return None
    usage, moved = tokenizer.codebooks.usage(), tokenizer.moved()
    return CodeUsage(
        int(tokenizer.version),
        tokenizer.codebooks.books_TMVD.shape[2],
        float(usage.perplexity_TM.mean()),
        float(usage.perplexity_TM.min()),
        float(usage.dead_TM.mean()),
        moved,
    )


def frozen_codes(learner: AnyLearner) -> tuple[int, bytes] | None:
    """The tokenizer's newest frozen version, and it as arrays (safetensors) that say what they were made for (uint64);
    None if there is none."""
    tokenizer = _tokenizer_of(learner)
    arrays = {} if tokenizer is None else tokenizer.frozen()
    if not arrays:
        return None
    whom = made_for(learner.recipe.fields, learner.recipe.model.sif)
    return int(arrays["version"][0]), save({**arrays, "made_for": np.array([whom], np.uint64)})
