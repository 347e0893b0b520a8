"""Garbage collection in commands, which import much, and in roles that run for long."""

import gc

_COLLECT_AFTER = 100_000
"""Net new containers; what is read from the outbox at once has fewer, which go by their reference counts."""


def collect_seldom() -> None:
    """Have fewer collections: those that come while modules are imported find nothing, and cost a tenth of a start."""
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def spare_garbage_collector() -> None:
    """Leave what start-up made out of all further collections, and have fewer of them.

    Modules are some hundred thousand objects that live as long as the process. To walk over them each time that samples
    were decoded cost the learner a tenth of its time.
    """
    gc.collect()
    gc.freeze()
    collect_seldom()
