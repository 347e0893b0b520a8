"""River's FTRL, and the item's mean label, on the same samples: predict each, then learn it, in the same order.

River's features are the occurrences that our model has, by key, with the same weight. Rank scores are logits, as
neither tells a user's level apart.
"""

import time
from collections.abc import Callable

import numpy as np
from river.linear_model import LogisticRegression
from river.optim import FTRLProximal

from learner.fast.inputs.occurrences import occurrences_of, plan_of
from simulators.experiments.stream.figures import Said
from simulators.experiments.stream.recorded import Recording
from stream.predictions.columns import item_mean_baseline

RIVER, ITEM_MEAN = "river ftrl", "item mean"
_BLOCK = 4096
_LEAST = 1e-7
Told = Callable[[int], None]


def said_of(predictions_T: np.ndarray) -> Said:
    """Of probabilities alone."""
    p_T = predictions_T.astype(np.float64)
    clipped_T = np.clip(p_T, _LEAST, 1 - _LEAST)
    return Said(p_T.astype(np.float32), np.log(clipped_T / (1 - clipped_T)).astype(np.float32))


def run_item_mean(recording: Recording) -> Said:
    """The item's mean label so far, as of each impression, shrunk: what users without a model would be told."""
    positive = recording.settings.recipe.positive
    found = [item_mean_baseline(samples.rows_B["item_counts"], positive) for samples in recording.blocks(_BLOCK)]
    return said_of(np.concatenate(found))


def run_river(recording: Recording, told: Told = lambda num_samples: None) -> tuple[Said, float]:
    """First-order FTRL; returns what was said of each sample before it was learned, and samples/s.

    Args:
        recording: what is learned.
        told: is called with the number of samples of each block.
    """
    plan = plan_of(recording.settings.recipe.layout)
    # Of rates from .02 to 2, with l2 0 and 1, the best on MovieLens-1M's first 20,000 ratings: AUC .732 (.1, 1: .707);
    # on the first 100,000 .7585 (.2, 0: .7519).
    model = LogisticRegression(FTRLProximal(alpha=0.5, beta=1.0, l1=0.0, l2=0.0))
    predict: Callable[[dict[int, float]], dict[bool, float]] = model.predict_proba_one
    predictions: list[float] = []
    seconds = 0.0
    for samples in recording.blocks(_BLOCK):
        occurrences = occurrences_of(samples, plan)
        keys, weights = occurrences.keys_N.tolist(), occurrences.weights_N.tolist()
        bounds, learns = occurrences.offsets_B1.tolist(), samples.is_labelled.tolist()
        labels = samples.rows_B["label"].tolist()
        began = time.perf_counter()
        for b, (label, is_learned) in enumerate(zip(labels, learns, strict=True)):
            x = dict(zip(keys[bounds[b] : bounds[b + 1]], weights[bounds[b] : bounds[b + 1]], strict=True))
            predictions.append(predict(x)[True])
            if is_learned:
                model.learn_one(x, bool(label))
        seconds += time.perf_counter() - began
        told(len(samples))
    return said_of(np.array(predictions)), len(predictions) / seconds
