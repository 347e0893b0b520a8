"""Counts of users and items as of each sample: what the pipeline reads from Redis."""

import numpy as np

from learner.samples.columns import Samples

_NOTHING = [0, 0, 0, 0]
"""Of an id: impressions, positives, times of the first and of the last sample. Lists are replaced, never changed."""
_NUM = len(_NOTHING)


class Counts:
    """Impressions and positives so far, of every id that was learned from.

    Args:
        unknown: keys of the user and of the item that stand for none; these are never counted.
    """

    def __init__(self, unknown: tuple[int, int]) -> None:
        self._unknown = unknown
        self._of: tuple[dict[int, list[int]], dict[int, list[int]]] = {}, {}
        self.num_samples = 0

    def fill(self, samples: Samples) -> None:
        """Give samples that are only predicted the state as of now."""
        for which, keys in enumerate((samples.user_keys, samples.item_keys)):
            known = self._of[which]
            self._write(samples, which, [known.get(key, _NOTHING) for key in keys.tolist()])

    def fill_and_count(self, samples: Samples) -> None:
        """Give each sample the state just before it, and count it."""
        rows = samples.rows_B
        for which, keys in enumerate((samples.user_keys, samples.item_keys)):
            known = self._of[which]
            before: list[list[int]] = []
            for key, label, ts in zip(keys.tolist(), rows["label"].tolist(), rows["ts"].tolist(), strict=True):
                if key == self._unknown[which]:
                    before.append(_NOTHING)
                    continue
                was = known.get(key, _NOTHING)
                before.append(was)
                known[key] = [was[0] + 1, was[1] + label, was[2] if was[0] else ts, ts]
            self._write(samples, which, before)
        self.num_samples += len(samples)

    def _write(self, samples: Samples, which: int, before: list[list[int]]) -> None:
        rows = samples.rows_B
        states_BN = np.array(before, np.int64).reshape(-1, _NUM)
        name = ("user_counts", "item_counts")[which]
        rows[name] = states_BN[:, :2]
        if which == 0:
            rows["user_first_ts"], rows["user_last_ts"] = states_BN[:, 2], states_BN[:, 3]

    @property
    def num_ids(self) -> int:
        """Users and items that are counted."""
        return len(self._of[0]) + len(self._of[1])

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        arrays = {"num_samples": np.array([self.num_samples])}
        for which, name in enumerate(("user", "item")):
            known = self._of[which]
            arrays[f"{name}_keys"] = np.fromiter(known.keys(), np.uint64, len(known))
            arrays[f"{name}_counts"] = np.array(list(known.values()), np.int64).reshape(-1, _NUM)
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from `state()`."""
        self.num_samples = int(arrays["num_samples"][0])
        users, items = (
            dict(zip(arrays[f"{name}_keys"].tolist(), arrays[f"{name}_counts"].tolist(), strict=True))
            for name in ("user", "item")
        )
        self._of = users, items
