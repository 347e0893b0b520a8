"""What samples are encoded by, for whoever joins them."""

from safetensors.numpy import save

from learner.learner import Learner


def frozen_codes(learner: Learner) -> tuple[int, bytes] | None:
    """Version and arrays (safetensors) of the tokenizer's newest frozen version; None if there is none."""
    tokenizer = None if learner.deep is None else learner.deep.dense.tokenizer
    arrays = {} if tokenizer is None else tokenizer.frozen()
    return (int(arrays["version"][0]), save(arrays)) if arrays else None
