"""Why a sample was emitted."""

from enum import IntEnum


class SampleKind(IntEnum):
    """Each impression has one base sample (0 or 1), at most one correction after it, and for each task but the main one
    at most two samples that say what became of it; before all of them one that says that it was shown, and behind a
    negative at most one that says that it is settled."""

    NEGATIVE = 0
    """Its window closed without positive feedback."""
    POSITIVE = 1
    CORRECTION = 2
    """Positive feedback came after the negative had left."""
    TASK_CORRECTION = 3
    """Another task's label came to be known after the base sample had left, or turned; `task` says which."""
    SHOWN = 4
    """The impression has passed; its label is not known yet. It is predicted, and not learned from."""
    SETTLED = 5
    """A negative for which nothing has come for long enough: now it is believed."""
