"""What the compiled join works on: everything that a partition holds, as arrays.

Legend: S impressions that are held, U users, I items, C counters, T tasks, H histories, E samples of one call,
V values of feedback, N records.
"""

from typing import NamedTuple

import numpy as np

from state_store.tasks import MAX_TASKS

HELD_DTYPE = np.dtype(
    [
        ("ts", "<f8"),
        ("passed", "<f8"),
        ("body_at", "<i8"),
        ("id_at", "<i8"),
        ("body_size", "<i4"),
        ("id_size", "<i4"),
        ("text_size", "<i4"),
        ("keys_size", "<i4"),
        ("user", "<i4"),
        ("first_value", "<i4"),
        ("last_value", "<i4"),
        ("tag", "<i8"),
        ("state", "u1"),
        ("phase", "u1"),
        ("bits", "u1"),
        ("num_values", "u1"),
        ("is_labelled", "u1"),
        ("is_body_new", "u1"),
        ("is_touched", "u1"),
        ("core_values", "u1"),
        ("told", "u1", (MAX_TASKS,)),
        ("first", "<f8", (MAX_TASKS,)),
    ],
    align=True,
)
"""An impression that is held: event time, where its body is (-1: not read) and its id; sizes of its texts and keys;
its user (-1: not looked for); feedback with values, as a list; layout; what is known of it, and of what is in Redis. Of
each task what the learner has been told, and the event time of the positive that decides it (0: none)."""

ENTITY_DTYPE = np.dtype(
    [
        ("changed", "<i8"),
        ("present", "<i8"),
        ("is_touched", "u1"),
        ("known", "u1"),
    ],
    align=True,
)
"""A user or an item: which of its fields are to be written, and which Redis has, a bit each. Known: 1 if what the
partition itself writes was read; 2 if norms and sums are as of now, too."""

HISTORY_DTYPE = np.dtype([("at", "<i8"), ("size", "<i8"), ("room", "<i8"), ("shared", "<i8")], align=True)
"""A user's history: where it is, its bytes, for how many there is room; the view that this call's samples share, from 1
(0: none)."""

CLAIM_DTYPE = np.dtype([("ts", "<f8"), ("user", "<i8")], align=True)
"""The newest time of one of the users who came newest."""

RECORD_DTYPE = np.dtype(
    [
        ("ts", "<f8"),
        ("value", "<f8"),
        ("chance", "<f8"),
        ("core_at", "<i8"),
        ("waiting_at", "<i8"),
        ("waiting_end", "<i8"),
        ("held", "<i4"),
        ("user", "<i4"),
        ("item", "<i4"),
        ("what", "<i4"),
        ("kind", "u1"),
        ("outcome", "u1"),
    ],
    align=True,
)
"""A record: event time; the value of feedback (NaN: none); the chance of an impression to be chosen as a negative: it
is if below the rate; where its core is, and which feedback waits for it; numbers of impression, user and item; bytes of
the core, or which action, from 0. Outcome: 1 where feedback found no impression, or an impression took what waited."""

SAMPLE_DTYPE = np.dtype(
    [
        ("delay", "<f8"),
        ("held", "<i4"),
        ("values", "<i4"),
        ("kind", "u1"),
        ("label", "u1"),
        ("labels", "u1"),
        ("known", "u1"),
        ("task", "u1"),
    ],
    align=True,
)
"""A sample that leaves: of which impression, what is said of it, which row of values (-1: none)."""

CARRIED_DTYPE = np.dtype([("shared", "<i4"), ("begin", "<i4"), ("end", "<i4")], align=True)
"""What a sample carries of a history: a view of a user's (-1: nothing), from which byte to which."""

VIEW_DTYPE = np.dtype(
    [("at", "<i8"), ("user", "<i4"), ("history", "<i4"), ("begin", "<i4"), ("end", "<i4"), ("moved", "<i8")], align=True
)
"""What samples of one call share of a user's history. `at`: where it is, once it is another than the user's (-1: it is
the user's); `moved`: how far its bytes lie behind where they were."""

VALUE_DTYPE = np.dtype([("delay", "<f8"), ("value", "<f8"), ("next", "<i4"), ("action", "<i4")], align=True)
"""Feedback with a value (NaN: without), and the next one of the same impression (-1: none)."""

DEAD_DTYPE = np.dtype([("record", "<i4"), ("waiting", "<i4"), ("reason", "<i4")], align=True)
"""An event that is given up: which record, or which of the feedback that waited (-1: not that)."""

(
    ARRIVED,
    TOUCHED,
    USERS_TOUCHED,
    ITEMS_TOUCHED,
    SAMPLES,
    SAMPLE_VALUES,
    VIEWS,
    DEAD,
    CLAIMS,
    OLDEST_CLAIM,
    VALUES,
    BODIES_END,
    HISTORIES_END,
) = range(13)
"""Places of `Arrays.sizes`: how much of each list there is; the first four are rows of `lists_4S`. The last three grow
from call to call."""
NUM_SIZES, NUM_OF_CALL = 13, 10

TOP, MOVED, WATERMARK = range(3)
"""Places of `Arrays.times`; NaN where nothing is known."""

NORM, NORM_VERSION, FIRST_TS, LAST_TS, RENEWED = range(5)
"""Columns of a user behind its counters; an item has own counters, those of other partitions, then norm, version,
renewed."""
ITEM_RENEWED = 2
NUM_OF_USER = 5
"""Columns of numbers behind a user's counters."""


class Options(NamedTuple):
    """What the settings say of the join."""

    num_actions: int
    num_tasks: int
    main: int
    """Number of the main task, from 0."""
    is_immediate: bool
    as_served: bool
    early_positives: bool
    window: float
    attribution: float
    lateness: float
    settle: float
    """0: negatives are believed at once."""
    negative_rate: float
    negative_rate_from: float
    time_users: int
    rival_mask: int
    num_histories: int
    history_tag: int
    tasks_T3: np.ndarray
    """Actions that make it positive, a bit each; window; attribution, ms. int64."""
    histories_H3: np.ndarray
    """Actions that append to it; bytes of what a sample carries at most; bytes that are kept. int64."""
    places_PH2: np.ndarray
    """Of a layout its tag, where in a core's fixed part the item's key is, then each history's category (-1: none)."""


MASK, TASK_WINDOW, TASK_ATTRIBUTION = range(3)
"""Columns of `Options.tasks_T3`."""
LENGTH, KEPT = 1, 2
"""Columns of `Options.histories_H3`, behind the mask."""


class Arrays(NamedTuple):
    """All that a partition holds."""

    held_S: np.ndarray
    values_V: np.ndarray
    bodies: np.ndarray
    """uint8: bodies and ids."""
    users_U: np.ndarray
    user_values_UX: np.ndarray
    histories_UH: np.ndarray
    histories: np.ndarray
    """uint8."""
    items_I: np.ndarray
    item_values_IX: np.ndarray
    lists_4S: np.ndarray
    samples_E: np.ndarray
    carried_EH: np.ndarray
    sample_values_EA: np.ndarray
    views_E: np.ndarray
    dead_N: np.ndarray
    counts_2: np.ndarray
    """What was counted, and whether it was."""
    claims: np.ndarray
    sizes: np.ndarray
    times: np.ndarray


class Records(NamedTuple):
    """Records of one call, and the feedback that waits for its impressions."""

    records_N: np.ndarray
    waiting_W: np.ndarray
    cores: np.ndarray
    """uint8."""
