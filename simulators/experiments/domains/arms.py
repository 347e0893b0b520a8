"""What a target domain's sequence model begins with."""

from typing import NamedTuple


class Arm(NamedTuple):
    """One of what is compared."""

    name: str
    ids: str
    """of items: `random`; or made of source items' with the map of `text` alone, or of text and `behaviour`."""
    encoder: bool
    """Whether blocks and positions are those learned on the sources."""
    learns: bool
    """Whether it is trained on the target."""


SCRATCH = "from scratch"
ARMS = (
    Arm(SCRATCH, "random", encoder=False, learns=True),
    Arm("encoder only", "random", encoder=True, learns=True),
    Arm("zero-shot, text", "text", encoder=True, learns=False),
    Arm("zero-shot", "behaviour", encoder=True, learns=False),
    Arm("fine-tuned, text", "text", encoder=True, learns=True),
    Arm("fine-tuned", "behaviour", encoder=True, learns=True),
    Arm("fresh encoder", "behaviour", encoder=False, learns=True),
)
"""IDP's uses of generated ids (zero-shot; all of it fine-tuned; a fresh encoder), and what they are compared with."""
