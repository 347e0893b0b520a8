"""The group as one learner, to whoever trains: what it is asked, all processes do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from learner.config import Values
from learner.group.agreed import LEADER, Command
from learner.group.member import Counts, Encoding, Member, and_meta, with_meta
from learner.group.owners import owners
from learner.group.packed import learned_in, reordered, unpacked
from learner.group.refusals import refused
from learner.group.states import joined_state, parts_of
from learner.group.wire import Wire
from learner.learned import Learned, joined
from learner.published.changed import Changed
from learner.published.encoding import encode_snapshot
from learner.recipe import Recipe
from learner.samples.columns import Samples

if TYPE_CHECKING:
    import torch


class GroupLearner:
    """Several learners that are one (`learner.published.changed.Together`).

    A sample is learned by its user's process, which has that user's rows alone; the rows of all other fields, crosses
    and dense arrays are each process' own copies, put together every `learner.exchange_samples` samples of the group,
    and before anything is published or kept. So what one process has learned of an item, another one knows at the
    latest so many samples later.

    Args:
        recipe: what is learned.
        wire: to the others, which `learner.group.follower.follow`.
        device: where this process' deep part computes; None: as `learner.device` says.

    Raises:
        ValueError: several processes cannot learn that.
        GroupLostError: another process has ended; so do all methods.
    """

    def __init__(self, recipe: Recipe, wire: Wire, device: "torch.device | None" = None) -> None:
        why = refused(recipe)
        if why:
            raise ValueError(why)
        self.recipe, self.layout, self.settings = recipe, recipe.layout, recipe.learner
        self.wire = wire
        wire.tell(Command.BEGIN, msgspec.msgpack.encode(recipe))
        self.member = Member(recipe, wire, device)
        wire.gather(b"")
        self._since = 0
        """Samples taken since the last exchange."""
        self._counts = [self.member.counts()] * wire.size

    def _all(self, command: Command, said: bytes = b"") -> list[memoryview]:
        """Have all do something; returns what each answers."""
        self.wire.tell(command, said)
        return self.wire.gather(self.member.obey(command, said))

    # As a learner -----------------------------------------------------------------------------------------------

    @property
    def micro_batch(self) -> int:
        """Samples that are worth waiting a moment for."""
        return self.member.learner.micro_batch

    @property
    def num_samples(self) -> int:
        """Samples learned from."""
        return sum(counts.num_samples for counts in self._counts)

    @property
    def learned_ts(self) -> int:
        """Event time of what was learned last, ms: the median over the processes."""
        return sorted(counts.learned_ts for counts in self._counts)[self.wire.size // 2]

    @property
    def num_rows(self) -> int:
        """Ids that have a row; of those that are shared, as many as there were at the last checkpoint count once."""
        shared = sum(counts.num_shared for counts in self._counts) - self._counts[LEADER].num_shared
        return sum(counts.num_rows for counts in self._counts) - shared

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number, after all has been put together."""
        self.exchange()
        return self.member.learner.is_finite

    def warm_up(self) -> float:
        """Compile, or load from the cache, whatever is compiled; returns the seconds that it took."""
        return self.member.learner.warm_up()

    def learn(self, samples: Samples) -> Learned:
        """Predict the samples, and train once on those that bring a label; returns what was predicted before."""
        learned = []
        for piece in self._pieces(samples):
            learned.append(self._learn(piece))
            self._since += len(piece)
            if self._since >= self.settings.exchange_samples:
                self.exchange()
        return learned[0] if len(learned) == 1 else joined(learned)

    def _pieces(self, samples: Samples) -> Iterator[Samples]:
        """Up to the next exchange; of a deep part, one micro-batch after the other."""
        begin, most = 0, self.settings.micro_batch if self.recipe.has_deep else len(samples)
        while begin < len(samples):
            end = begin + min(most, self.settings.exchange_samples - self._since)
            yield samples.slice(begin, end)
            begin = end

    def _learn(self, samples: Samples) -> Learned:
        answers = [and_meta(answer) for answer in self._all(Command.LEARN, samples.encode())]
        self._counts = [msgspec.convert(meta, Counts) for _, meta in answers]
        owners_B = owners(samples.user_keys, self.wire.size)
        # Where each sample is among those of all processes, one behind the other.
        order_B = np.empty(len(samples), np.int64)
        order_B[np.argsort(owners_B, kind="stable")] = np.arange(len(samples))
        return reordered(joined([learned_in(arrays) for arrays, _ in answers if arrays]), order_B)

    def exchange(self) -> None:
        """Put together what all share, unless nothing was learned since."""
        if self._since:
            self._all(Command.EXCHANGE)
            self._since = 0

    def norms_of(self, keys_N: np.ndarray) -> np.ndarray:
        """L2 norms of the embeddings of ids, by their keys; 0 of one that has no row."""
        answers = self._all(Command.NORMS, np.ascontiguousarray(keys_N, np.uint64).tobytes()) if len(keys_N) else []
        norms_N = np.zeros(len(keys_N), np.float32)
        for answer in answers:
            found_N = unpacked(answer)["norms"]
            norms_N = np.where(norms_N == 0, found_N, norms_N)
        return norms_N

    def evict_stale(self) -> int:
        """Free rows beyond their time to live, of a slice of all rows; returns how many."""
        if not self.settings.embedding_ttl_days:
            return 0
        self.exchange()
        return int(unpacked(self._all(Command.EVICT)[LEADER])["num"][0])

    # Checkpoints and weights ------------------------------------------------------------------------------------

    def take_changes(self, *, whole: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has changed at all processes since the last call, or since `restore`, for the next checkpoint.

        Args:
            whole: take the tables whole.
        """
        self.exchange()
        answers = [and_meta(answer) for answer in self._all(Command.TAKE_CHANGES, b"1" if whole else b"")]
        self._counts = [msgspec.convert(said["counts"], Counts) for _, said in answers]
        return joined_state([(arrays, said["state"]) for arrays, said in answers], spread=self.member.beliefs_spread)

    def restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Continue from what `take_changes` gave, of as many processes.

        Raises:
            ValueError: the state is of a model with other parts.
        """
        mine, *others = parts_of(arrays, meta)
        self.member.restore(*mine)
        self.wire.tell(Command.RESTORE)
        self.wire.exchange([b"", *(with_meta(*part) for part in others)])
        self._since = 0
        answers = self.wire.gather(self.member.counted())
        self._counts = [msgspec.convert(and_meta(answer)[1], Counts) for answer in answers]

    def take_changed(self) -> Changed:
        """What has changed since the last version: this process' rows, and of all what was evicted."""
        self.exchange()
        answers = [unpacked(answer) for answer in self._all(Command.TAKE_CHANGED)]
        changed = self.member.changed
        assert changed is not None
        evicted = [
            np.unique(np.concatenate([answer[str(n)] for answer in answers])) for n in range(len(changed.evicted))
        ]
        return Changed(changed.rows, tuple(evicted))

    def encode_snapshot(self, changed: Changed | None, values: Values) -> Iterator[bytes]:
        """Messages as of `learner.published.encoding`: this process' weights and rows, then the others' own rows.

        Args:
            changed: from `take_changed`.
            values: what the values of tables are rounded to.
        """
        self.exchange()
        yield from encode_snapshot(self.member.learner, changed, values)
        for rank in range(1, self.wire.size):
            wanted = Encoding(rank, changed is None, values)
            yield from msgspec.msgpack.decode(self._all(Command.ENCODE, msgspec.msgpack.encode(wanted))[rank])
