"""How codebooks are used, as it is reported."""

import msgspec


class CodeUsage(msgspec.Struct, frozen=True):
    """How the codebooks are used; of each slot and level there is one."""

    version: int
    """The newest that is frozen; 0: none is yet."""
    codes: int
    """V, of one codebook."""
    perplexity: float
    """Exponential of the entropy of a codebook's use, of V at most: how many codes it is as good as; their mean."""
    perplexity_min: float
    """Of the codebook that is used least evenly."""
    dead: float
    """Share of the codes that are used less than a hundredth as often as the average code."""
    moved: float | None
    """How far a code moved from the last frozen version to the newest, as a share of the codes' mean length; None
    before there are two."""
