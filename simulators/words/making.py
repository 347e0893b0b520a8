"""A file of words' vectors, from what a sentence encoder says of each by itself.

Legend: V words, E dimensions of the encoder, W those that are kept.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simulators.logs.log import FeatureTable
from stream.events import RawFeature

_SIF = 1e-4
"""a of smooth inverse frequency, a / (a + p) (Arora et al., ICLR 2017)."""


def values_of(table: FeatureTable) -> list[str]:
    """Every text that is a feature, or in one, each once, in the order in which they come."""
    return list(dict.fromkeys(text for features in table.all() for text in _texts(features)))


def _texts(features: Mapping[str, RawFeature]) -> Iterator[str]:
    for value in features.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from (text for text in value if isinstance(text, str))


def frequency_weights(num_ranked: int, num_others: int) -> np.ndarray:
    """Smooth inverse frequency of words that are ordered by how often they come, by Zipf's law; 1 of all others.

    >>> [f"{weight:.2g}" for weight in frequency_weights(2, 1)]
    ['0.00015', '0.0003', '1']
    """
    shares_V = 1.0 / np.arange(1, num_ranked + 1)
    weights_V = _SIF / (_SIF + shares_V / shares_V.sum()) if num_ranked else shares_V
    return np.concatenate([weights_V, np.ones(num_others)]).astype(np.float32)


def principal(vectors_VE: np.ndarray, width: int) -> tuple[np.ndarray, float]:
    """The first principal components of vectors less their mean, (V, W), and their share of the variance."""
    centred_VE = vectors_VE - vectors_VE.mean(axis=0)
    variances_E, axes_EE = np.linalg.eigh(centred_VE.T @ centred_VE)
    chosen_W = np.argsort(-variances_E)[:width]
    kept_VW: np.ndarray = centred_VE @ axes_EE[:, chosen_W]
    return kept_VW.astype(np.float32), float(variances_E[chosen_W].sum() / max(variances_E.sum(), 1e-30))


def merged(ranked: Sequence[str], others: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """All words, each once, and how much each says, (V,).

    Args:
        ranked: by how often they come in the language.
        others: that are wanted besides.
    """
    known = set(ranked)
    more = [word for word in dict.fromkeys(others) if word not in known]
    return [*ranked, *more], frequency_weights(len(ranked), len(more))
