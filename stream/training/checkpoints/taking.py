"""What was learned becomes durable, and what belongs to it with it: predictions, figures, the outbox's trimming."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from state_store.outbox import Outbox
from stream.predictions.log import PredictionLog
from stream.process.failpoints import failpoint
from stream.training.checkpoints.resume import Resumed
from stream.training.checkpoints.saver import Cut, Saver, not_beyond
from stream.training.figures import Figures
from stream.training.trainer import Trainer


class Checkpoints:
    """A learner's, one after the other.

    A checkpoint is taken between two steps of training, in memory, and written while training goes on. It counts once
    its manifest is durable, and before that what belongs to it is; only then is the outbox trimmed, and may the
    monitor know.

    Args:
        folder: of the checkpoints.
        log: of predictions.
        figures: the monitor's, if there are any.
        resumed: where training was resumed.
        kept: numbers of older ones that stay, asked whenever one is taken.
    """

    def __init__(
        self,
        folder: Path,
        log: PredictionLog,
        figures: Figures | None,
        resumed: Resumed,
        kept: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._log = log
        self._figures = figures
        self._saver = Saver(folder, resumed.segments, self._write_what_belongs, kept)
        self.number = resumed.number
        """Of the last durable one; 0: there is none."""
        self.num_taken = -1
        """Samples that were trained on when the last one was taken."""
        self.stop_ms = 0.0
        """How long training stood still for it."""
        self.num_bytes = 0
        """What it wrote of the model; 0 before the first of this process."""
        self._to_trim: dict[int, int] = {}

    @property
    def is_busy(self) -> bool:
        """Whether one was taken that is not durable."""
        return self._saver.is_busy

    @property
    def is_to_settle(self) -> bool:
        """Whether `settle` has something to do, and would not wait."""
        return self._saver.is_to_finish

    def take(self, trainer: Trainer, offer: Callable[[int], bool]) -> None:
        """Take the next one, and begin to write it.

        Args:
            trainer: whose.
            offer: hands the frozen twin its samples; whether that worked.

        Raises:
            OSError: the run folder takes nothing; nothing was taken.
        """
        began, number, figures = time.monotonic(), self.number + 1, self._figures
        trainer.learner.evict_stale()
        # If the disk refuses, all of it comes again under the same number.
        if figures is not None:
            figures.cut()
            if not offer(number):
                figures.keep(number)
        self._log.cut()
        arrays, meta = trainer.learner.take_changes(whole=self._saver.needs_whole())
        whole = {"learner": meta, "trainer": msgspec.to_builtins(trainer.state()), "number": number}
        self._saver.begin(Cut(number, arrays, whole, dict(trainer.cursor)))
        self.num_taken = trainer.num_trained
        self.stop_ms = 1000 * (time.monotonic() - began)

    def _write_what_belongs(self, number: int) -> None:
        if self._figures is not None:
            self._figures.write(number)
        self._log.write(number)

    def settle(self) -> bool:
        """Wait until the one that is being written is durable; False if there is none.

        Raises:
            OSError: it cannot be written. It waits; the next call tries again.
        """
        finished = self._saver.finish()
        if finished is None:
            return False
        cut, made = finished
        failpoint("checkpoint.before_trim")
        self.number, self._to_trim = cut.number, cut.cursor
        self.num_bytes = made.segments[-1].num_bytes
        self._log.durable()
        if self._figures is not None:
            self._figures.durable(cut.number)
        return True

    def heed_rollback(self, trainer: Trainer) -> None:
        """Redis is older than the training, and will say other things under numbers that were learned."""
        self._to_trim = not_beyond(trainer.cursor, self._to_trim)
        self._saver.limit(trainer.cursor)

    def trim(self, outbox: Outbox, num_kept: int) -> None:
        """Drop from the outbox what is durable, but for the newest samples of each partition, `num_kept` of them."""
        if self._to_trim:
            outbox.trim({p: sequence - num_kept for p, sequence in self._to_trim.items() if sequence > num_kept})
            self._to_trim = {}

    def leave(self) -> None:
        """Settle, and write nothing more to the folder.

        Raises:
            OSError: what was taken cannot be written. It waits; the next call tries again.
        """
        self.settle()
        self._saver.leave()
