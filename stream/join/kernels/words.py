"""What the numbers mean that compiled functions share with Redis and with each other."""

from learner.samples import layout
from learner.samples.kind import SampleKind
from state_store.entities.histories import ENTRY_BYTES

NEGATIVE, POSITIVE, CORRECTION, TASK_CORRECTION, SHOWN, SETTLED = map(int, SampleKind)

HELD, EMITTED_NEGATIVE, EMITTED_POSITIVE, CORRECTED, UNSAMPLED, DROPPED, EMITTED_SETTLED = range(7)
"""Phases of an impression that is held. Unsampled: of no use as a negative. Dropped: and its window has closed."""

UNKNOWN, FALSE, TRUE = range(3)
"""What the learner has been told of a task's label."""

ABSENT, PRESENT, GONE = range(3)
"""Whether an impression is held."""

MALFORMED, IMPRESSION, FEEDBACK, HEARTBEAT, REROUTED = range(5)
"""Kinds of records."""

LATE_IMPRESSION, LATE_FEEDBACK, OUTSIDE = range(3)
"""Why an event is given up."""
REASONS = ("late impression", "late feedback", "outside the attribution window of its impression")
NO_IMPRESSION = "no impression for it"

COUNTED = (
    "impressions",
    "feedback",
    "heartbeat",
    "rerouted",
    "malformed",
    "late",
    "orphan",
    "duplicate_impression",
    "duplicate_feedback",
    "matched",
    "accepted",
    "shown",
    "dropped",
    "positive",
    "negative",
    "correction",
    "task_correction",
    "settled",
)
"""Counters of the join; behind them those of each task."""
(
    IMPRESSIONS,
    FEEDBACKS,
    HEARTBEATS,
    REROUTEDS,
    MALFORMEDS,
    LATES,
    ORPHANS,
    DUPLICATE_IMPRESSIONS,
    DUPLICATE_FEEDBACKS,
    MATCHED,
    ACCEPTED,
    SHOWNS,
    DROPPEDS,
    POSITIVES,
    NEGATIVES,
    CORRECTIONS,
    TASK_CORRECTIONS,
    SETTLEDS,
) = range(len(COUNTED))
NUM_COUNTED = len(COUNTED)

OF_TASK = ("positive", "negative", "unknown", "late_positive", "late_negative", "correction")
"""Counters of each task."""
OF_POSITIVE, OF_NEGATIVE, OF_UNKNOWN, OF_LATE_POSITIVE, OF_LATE_NEGATIVE, OF_CORRECTION = range(len(OF_TASK))
NUM_OF_TASK = len(OF_TASK)

BODY_HEAD = 9
"""Bytes of a body before its core: '<Bd' form, event time."""
CORE_HEAD = layout.CORE_HEAD.size
"""Bytes of a core before its texts: '<IIIB' tag, sizes of texts and keys, number of actions."""
ENTRY = ENTRY_BYTES
"""Bytes of an entry of a history: event time, key of the item, key of its category."""
