"""Layers that several models end in."""

from collections.abc import Sequence

from torch import nn


def hidden_layers(width: int, hidden: Sequence[int], dropout: float = 0.0) -> tuple[nn.Sequential, int]:
    """Linear and ReLU, by turns, each followed by dropout if there is any; returns the layers and what they end in.

    >>> layers, width = hidden_layers(6, (4, 2))
    >>> len(layers), width
    (4, 2)
    """
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = units
    return nn.Sequential(*layers), width


def perceptron(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Hidden layers and a linear one of width 1."""
    layers, last = hidden_layers(width, hidden, dropout)
    return layers.append(nn.Linear(last, 1))
