"""Evidence that may be looked at after every block: bets against "the mean is at most so much".

Whoever bets on the mean of bounded values being above a tolerance, and starts with 1, has more than 1/alpha at any time
with a probability of at most alpha if it is not, whatever the strategy (Ville's inequality; Waudby-Smith and Ramdas
2024, "Estimating means of bounded random variables by betting", section 4). Ours is a mixture of J constant stakes,
re-shared after each block (Fixed Share: Herbster and Warmuth 1998), so that harm which begins late is found, too.

Legend: N values of a block, J stakes.
"""

import math

import msgspec
import numpy as np

_SHARES = np.array([0.0, *(2.0**-j for j in range(1, 9))])
"""Stakes, as parts of the greatest that cannot lose everything; 0 is money in the pocket."""
_PRIOR = np.array([0.5, *[0.5 / (len(_SHARES) - 1)] * (len(_SHARES) - 1)])
_RESHARED = 0.01
"""Part of the money that is shared anew after a block."""


class Bets(msgspec.Struct, kw_only=True):
    """Bets on one mean; plain data, so that a checkpoint can hold it.

    >>> bets, rng = Bets(tolerance=0.0, bound=1.0), np.random.default_rng(7)
    >>> for _ in range(50):
    ...     bets.update(rng.normal(0.2, 0.3, 20).clip(-1, 1))
    >>> bets.says(0.01)
    True
    """

    tolerance: float
    """The mean that is claimed not to be exceeded."""
    bound: float
    """No value is farther from 0; those that are count as if they were there."""
    log_wealth: float = 0.0
    highest: float = 0.0
    """Greatest `log_wealth` so far: what has once been proved stays so."""
    money: tuple[float, ...] = tuple(_PRIOR.tolist())
    """Parts of the wealth by stake, J of them."""
    num_values: int = 0
    total: float = 0.0

    def update(self, values_N: np.ndarray) -> None:
        """Bet on the values of a block, of which none was known when the stakes were shared."""
        if not len(values_N):
            return
        held_N = np.clip(values_N, -self.bound, self.bound)
        gains_N = (held_N - self.tolerance) / (self.bound + self.tolerance)
        gains_J = np.log1p(_SHARES[:, None] * gains_N).sum(axis=1)
        after_J = np.log(self.money) + gains_J
        most = float(after_J.max())
        parts_J = np.exp(after_J - most)
        growth = most + math.log(parts_J.sum())
        self.log_wealth += growth
        self.highest = max(self.highest, self.log_wealth)
        self.money = tuple(((1 - _RESHARED) * parts_J / parts_J.sum() + _RESHARED * _PRIOR).tolist())
        self.num_values += len(values_N)
        self.total += float(held_N.sum())

    @property
    def is_winning(self) -> bool:
        """Whether lately the greater stakes have won, so that more of the money is on them than to begin with."""
        return float(_SHARES @ self.money) > float(_SHARES @ _PRIOR)

    @property
    def mean(self) -> float:
        """Of the values so far; NaN before the first."""
        return self.total / self.num_values if self.num_values else math.nan

    def says(self, alpha: float) -> bool:
        """Whether the mean has been shown to exceed the tolerance, with an error of at most `alpha`."""
        return self.highest >= -math.log(alpha)
