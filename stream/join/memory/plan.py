"""What the compiled join has to know of a pipeline, once."""

from typing import Any

import numpy as np

from state_store.entities.histories import ENTRY_BYTES, history_options
from state_store.states import StateStore
from state_store.tasks import join_options
from stream.join.kernels.arrays import ITEM_RENEWED, RENEWED, Options
from stream.join.kernels.samples import most_samples
from stream.join.kernels.words import COUNTED, OF_TASK

SPARE = 512
"""Bytes by which a history may grow in place."""
LIFE = 16
"""Sixteenths for which a life of a user or an item in Redis lasts at least."""
_USER_NUMBERS = ("norm", "norm_version", "first_ts", "last_ts", "renewed")
_ITEM_NUMBERS = ("norm", "norm_version", "renewed")


class Plan:
    """Settings, as the join's functions take them, and the names of what is in Redis.

    Args:
        store: the state store.
    """

    def __init__(self, store: StateStore) -> None:
        self.topics = store.topics
        self.actions = store.actions.names
        said: dict[str, Any] = {
            **join_options(store.tasks, store.actions, store.join),
            **history_options(store.histories),
        }
        self.deadlines = [float(ms) for ms in said["deadlines"]]
        self.attribution = float(said["attribution_ms"])
        self.window = float(store.tasks[said["main"] - 1].window_ms)
        self.lateness = float(store.join.lateness_ms)
        self.settle = float(said["settle_ms"])
        self.release_limit = store.join.release_limit
        self.num_tasks = len(store.tasks)
        self.most_samples = most_samples(self.num_tasks)
        """Of one impression at once."""
        self.time_users = store.join.time_users
        self.is_sampled = store.join.negative_rate != 1
        histories, places = said["histories"], said["history_places"]
        self.num_histories = len(histories)
        self.options = Options(
            num_actions=len(self.actions),
            num_tasks=self.num_tasks,
            main=said["main"] - 1,
            is_immediate=store.join.mode == "immediate",
            as_served=store.join.as_served,
            early_positives=store.join.early_positives,
            window=self.window,
            attribution=self.attribution,
            lateness=self.lateness,
            settle=self.settle,
            negative_rate=float(store.join.negative_rate),
            negative_rate_from=float(store.join.negative_rate_from),
            time_users=self.time_users,
            rival_mask=int(said["rival_mask"]),
            num_histories=self.num_histories,
            history_tag=int(said["history_tag"]),
            tasks_T3=_whole(
                [task["positive_mask"], task["window_ms"], task["attribution_ms"]] for task in said["tasks"]
            ),
            histories_H3=_whole(
                [history["mask"], ENTRY_BYTES * history["length"], ENTRY_BYTES * history["kept"]]
                for history in histories
            ),
            places_PH2=_whole([tag, *at] for tag, at in places.items()),
        )
        self.kept_H = [ENTRY_BYTES * history["kept"] for history in histories]
        """Bytes that are kept of each history."""
        counted = ("impressions", *self.actions)
        self.num_counts = len(counted)
        self.user_fields = (*counted, *_USER_NUMBERS, *(history["field"] for history in histories))
        self.num_user_numbers = len(counted) + len(_USER_NUMBERS)
        self.item_fields = (*counted, *(f"other:{name}" for name in counted), *_ITEM_NUMBERS)
        self.user_renewed, self.item_renewed = len(counted) + RENEWED, 2 * len(counted) + ITEM_RENEWED
        """Columns."""
        self.counters = [f"n:{name}" for name in COUNTED]
        self.counters += [f"n:{what}:{task.name}" for task in store.tasks for what in OF_TASK]
        self.ttl_s = store.ttl_s
        self.sixteenths = tuple(-(-ttl_s // 16) for ttl_s in store.ttl_s)
        """Seconds of a sixteenth of a life: of users, of items."""
        self.lives = self.ttl_s[0] + self.sixteenths[0], self.ttl_s[1] + self.sixteenths[1]
        self.fields = _joined(self.user_fields), _joined(self.item_fields)
        self.field_at = _ends(self.user_fields), _ends(self.item_fields)
        self.fence_fields = ["epoch", *(f"offset:{topic}" for topic in self.topics), "seq", "watermark", "arrivals"]
        """What is the same as long as nobody else has written."""
        self.marks = ["rolls", "norms"]
        """What says that others have written sums or norms."""
        self.clock_fields = [
            f"{name}:{topic}" for topic in self.topics for name in ("max_ts", "claims", "moved", "seen")
        ]


def _whole(values: Any) -> np.ndarray:
    found = np.array(list(values), np.int64)
    return found if found.ndim == 2 else found.reshape(0, 3)


def bytes_of(text: str) -> np.ndarray:
    """A text as an array of bytes, as compiled functions take it."""
    return np.frombuffer(text.encode(), np.uint8).copy()


def _joined(names: tuple[str, ...]) -> np.ndarray:
    return bytes_of("".join(names))


def _ends(names: tuple[str, ...]) -> np.ndarray:
    return np.cumsum([0, *(len(name.encode()) for name in names)])
