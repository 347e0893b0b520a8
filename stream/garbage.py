"""Garbage collection in roles that run for long."""

import gc

_COLLECT_AFTER = 20_000
"""Net new containers; a micro-batch's are gone, by their reference counts, before there are so many."""


def spare_garbage_collector() -> None:
    """Leave what start-up made out of all further collections, and have fewer of them.

    Modules of torch and others are some hundred thousand objects that live as long as the process. To walk over them
    each time that samples were decoded cost the learner a tenth of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
