"""What of a replay is still under way, and how far the learner is behind it."""

from state_store.outbox import Outbox
from state_store.states import StateStore
from stream.process.status import LearnerStatus, SampleLag, sample_lag


def in_flight(sent: int, store: StateStore, outbox: Outbox) -> int:
    """Events written and not applied, and samples joined and not learned; asked in one round trip.

    Args:
        sent: events written.
        store: of the pipeline.
        outbox: of the pipeline.
    """
    fields = [*(f"offset:{topic}" for topic in store.topics), "seq"]
    with store.client.pipeline(transaction=False) as pipe:
        for p in range(outbox.num_partitions):
            pipe.hmget(store.keys.fence(p), fields)
            pipe.get(store.keys.learned(p))
        found = pipe.execute()
    applied = sum(int(offset) + 1 for *offsets, _ in found[::2] for offset in offsets if offset is not None)
    joined = sum(int(sequence or 0) for *_, sequence in found[::2])
    return sent - applied + joined - sum(int(learned or 0) for learned in found[1::2])


class Lags:
    """How many samples the learner is behind, looked at while a replay writes."""

    def __init__(self) -> None:
        self._seen: list[SampleLag] = []

    def note(self, outbox: Outbox, status: LearnerStatus | None) -> None:
        """Take a look."""
        if status is not None:
            self._seen.append(sample_lag(sum(outbox.sequences().values()), status))

    def summary(self) -> dict[str, dict[str, int]]:
        """Median and most; empty if the replay was over before anybody looked."""
        if not self._seen:
            return {}
        lags = {"learner": [lag.learner for lag in self._seen], "norms": [lag.norms for lag in self._seen]}
        return {name: {"p50": sorted(of)[len(of) // 2], "max": max(of)} for name, of in lags.items()}
