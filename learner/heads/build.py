"""Heads by name."""

from learner.config import HeadSettings
from learner.heads.layers import Heads
from learner.heads.mmoe import MMoE
from learner.heads.ple import PLE
from learner.heads.shared_bottom import SharedBottom
from learner.heads.snr import SNR

HEADS: dict[str, type[SharedBottom] | type[MMoE] | type[SNR] | type[PLE]] = {
    "shared_bottom": SharedBottom,
    "mmoe": MMoE,
    "snr": SNR,
    "ple": PLE,
}


def build_heads(settings: HeadSettings, width: int, num_tasks: int) -> Heads:
    """The heads that the settings name.

    Args:
        settings: of the heads; their kind is not `none`.
        width: H, of the representation.
        num_tasks: T.
    """
    return HEADS[settings.kind](settings, width, num_tasks)
