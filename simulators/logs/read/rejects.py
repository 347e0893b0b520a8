"""What was read and cannot be used: counted by reason, the first of each shown."""

from collections.abc import Iterable

import msgspec

ROW = "coldstream.row"
"""Column with a row's number in its file, from 1."""
PROBLEM = "coldstream.problem"
"""Column with what is wrong with a row as such; null: nothing."""
NUM_EXAMPLES = 3
_MAX_TEXT = 200


class Example(msgspec.Struct, frozen=True):
    """One row that was left out."""

    file: str
    row: int
    """From 1; a header is not counted. 0: not known."""
    text: str
    """The row, shortened."""


class Rejects:
    """Rows left out, by reason.

    >>> rejects = Rejects()
    >>> rejects.add("no user", 2, [Example("log.csv", 7, ",3,5")])
    >>> rejects.counts
    {'no user': 2}
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[Example]] = {}

    def add(self, reason: str, count: int, examples: Iterable[Example] = ()) -> None:
        """Count some more; their examples are kept while there are few."""
        if not count:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        kept = self.examples.setdefault(reason, [])
        for example in examples:
            if len(kept) >= NUM_EXAMPLES:
                return
            kept.append(msgspec.structs.replace(example, text=example.text[:_MAX_TEXT]))

    def wants(self, reason: str) -> bool:
        """Whether another example would be kept."""
        return len(self.examples.get(reason, ())) < NUM_EXAMPLES

    def update(self, other: "Rejects") -> None:
        """Add those of another."""
        for reason, count in other.counts.items():
            self.add(reason, count, other.examples[reason])

    def __len__(self) -> int:
        return sum(self.counts.values())
