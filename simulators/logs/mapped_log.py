"""A log that a mapping file makes of a data set's own files, in constant memory."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl

from simulators.logs.declared import looked_up, settings_of
from simulators.logs.log import ROWS, FeedbackRule, Log, recorded
from simulators.logs.mapping import Mapping
from simulators.logs.order.attribution import Attribution
from simulators.logs.order.chain import Chain
from simulators.logs.order.duplicates import Duplicates
from simulators.logs.order.merge import Source, gathered, merge, sorted_runs
from simulators.logs.order.negatives import NegativeSampler
from simulators.logs.read.files import find_files
from simulators.logs.read.frames import BLOCK_BYTES, read_frames
from simulators.logs.read.parts import HASHES, parts_of
from simulators.logs.read.rejects import Rejects
from simulators.logs.read.rows import RowMapper
from simulators.logs.read.tables import read_tables

_STEP_ROWS = 1 << 17
"""Rows that each step of a pass takes at least, so that its fixed cost does not count."""
DUPLICATE = "an exact duplicate"
LOST = "feedback to no impression"


class ReadSizes(msgspec.Struct, frozen=True):
    """How much is held at a time."""

    block_bytes: int = BLOCK_BYTES
    """Of a data file, unpacked."""
    run_rows: int = ROWS
    """Rows that are sorted in memory."""
    stretch_rows: int = ROWS


class MappedLog(Log):
    """A log by a mapping.

    Args:
        mapping: the mapping.
        source: path of the mapping file, for errors.
        folder: where the data files are.
        seed: of what is drawn: negatives.
        sizes: how much is held at a time.

    Raises:
        DataError: files are missing, cut off or damaged.
        MappingError: the mapping does not fit them.
    """

    def __init__(
        self, mapping: Mapping, source: str, folder: Path, seed: int = 7, sizes: ReadSizes | None = None
    ) -> None:
        self.name, self.source, self.licence = mapping.name, str(folder), mapping.licence
        self.mapping, self._path, self._folder, self._seed = mapping, source, folder, seed
        self._sizes = sizes or ReadSizes()
        self.feedback = tuple(FeedbackRule(entry.action, entry.delay) for entry in mapping.feedback)
        self.settings = recorded(settings_of(mapping))
        self._table_rejects = Rejects()
        tables = read_tables(source, mapping, folder, looked_up(mapping), self._table_rejects)
        self.users, self.items, self._row_fields = tables.users, tables.items, tables.fields
        self._mappers = [RowMapper(source, mapping, part, tables.fields) for part in parts_of(mapping)]
        self._files = [
            (mapper, file)
            for mapper in self._mappers
            for file in find_files(folder, mapper.part.files.files, f"{source}: {mapper.part.label}.files")
        ]
        # Also finds out, before anything else is done, whether the mapping fits.
        for mapper, file in self._files:
            self._first_rows(mapper, file)
        self._sources: list[Source] | None = None
        self._read_rejects = Rejects()
        self._span: tuple[int, int, int] | None = None
        self._late_rejects = Rejects()

    def _first_rows(self, mapper: RowMapper, file: Path) -> None:
        for frame in read_frames(file, mapper.part.files, min(self._sizes.block_bytes, 1 << 20)):
            mapper.map(frame, file, features=True)
            return

    def _mapped(
        self, mapper: RowMapper, file: Path, rejects: Rejects | None = None, *, features: bool
    ) -> Iterator[pl.DataFrame]:
        block_bytes = max(1, self._sizes.block_bytes // min(len(self._files), 8))
        for frame in read_frames(file, mapper.part.files, block_bytes):
            rows = mapper.map(frame, file, rejects, features=features)
            if len(rows):
                yield rows

    # Order ----------------------------------------------------------------------------------------------------------

    def _sorted(self) -> list[Source]:
        """Every file as sorted sources, found out by reading each once; files that are sorted are not copied."""
        if self._sources is None:
            chain = Chain()
            self._sources = []
            for n, (mapper, file) in enumerate(self._files):
                self._sources += self._sources_of(n, mapper, file, chain)
            if chain.unbroken and self.mapping.negatives is None and not self._may_lack_id:
                self._span = chain.span()
                self._note_late(chain.duplicates.num_dropped, 0)
        return self._sources

    @property
    def _may_lack_id(self) -> bool:
        """Whether there may be feedback that is not told its impression."""
        own = any("impression_id" not in mapper.part.texts for mapper in self._mappers[1:])
        return own or (bool(self.mapping.log.impression) and not self.mapping.log.impression_id)

    def _sources_of(self, n: int, mapper: RowMapper, file: Path, chain: Chain) -> list[Source]:
        rejects = Rejects()
        first_ts = last_ts = None
        for rows in self._mapped(mapper, file, rejects, features=False):
            ts = rows["ts"]
            if not ts.is_sorted() or (last_ts is not None and ts[0] < last_ts):
                return self._runs_of(n, mapper, file, chain)
            first_ts, last_ts = int(ts[0]) if first_ts is None else first_ts, int(ts[-1])
            chain.add(rows)
        self._read_rejects.update(rejects)
        if first_ts is None:
            return []
        return [Source(lambda: self._mapped(mapper, file, features=True), first_ts)]

    def _runs_of(self, n: int, mapper: RowMapper, file: Path, chain: Chain) -> list[Source]:
        chain.unbroken = False
        frames = self._mapped(mapper, file, self._read_rejects, features=True)
        return sorted_runs(frames, self._temporary, f"{n}", self._sizes.run_rows, is_only=len(self._files) == 1)

    @property
    def _temporary(self) -> Path:
        """A folder that goes when the log does."""
        if not hasattr(self, "_runs"):
            self._runs = Path(tempfile.mkdtemp(prefix="coldstream-log-"))
            weakref.finalize(self, shutil.rmtree, self._runs, ignore_errors=True)
        return self._runs

    # What replay asks -----------------------------------------------------------------------------------------------

    def _in_order(self) -> Iterator[pl.DataFrame]:
        """All rows, numbered, without duplicates, with negatives, feedback with its impression."""
        duplicates = Duplicates()
        attribution = Attribution(self.mapping.feedback) if self._may_lack_id else None
        settings = self.mapping.negatives
        sampler = None if settings is None else NegativeSampler(settings, self._row_fields, self._seed)
        count = 0
        for merged in gathered(merge(self._sorted()), min(_STEP_ROWS, self._sizes.stretch_rows)):
            rows = duplicates.drop(merged).drop(HASHES)
            if sampler is not None:
                rows = sampler.add(rows)
            number = "r" + pl.int_range(count, count + len(rows)).cast(pl.String)
            count += len(rows)
            if "impression_id" not in self._mappers[0].part.texts:
                rows = rows.with_columns(
                    imp_id=pl.when("shown").then(pl.coalesce("imp_id", number)).otherwise("imp_id")
                )
            if attribution is not None:
                rows = attribution.attribute(rows)
            if len(rows):
                yield rows
        self._note_late(duplicates.num_dropped, 0 if attribution is None else attribution.num_lost)

    def stretches(
        self, *, num_rows: int = 0, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """The rows, oldest first."""
        left = num_rows or None
        held: list[pl.DataFrame] = []
        for rows in self._in_order():
            part = _between(rows, from_ms, to_ms)[:left]
            held.append(part)
            left = None if left is None else left - len(part)
            while sum(map(len, held)) >= self._sizes.stretch_rows:
                whole = pl.concat(held)
                yield whole[: self._sizes.stretch_rows].rechunk()
                held = [whole[self._sizes.stretch_rows :]]
            if left == 0 or (to_ms is not None and rows["ts"][-1] >= to_ms):
                break
        if sum(map(len, held)):
            yield pl.concat(held).rechunk()

    def span(self) -> tuple[int, int, int]:
        """Rows of the whole log, event time of the first and of the last, ms; the first time it reads the files."""
        self._sorted()
        if self._span is None:
            chain = Chain()
            for rows in self._in_order():
                chain.count(rows)
            self._span = chain.span()
        return self._span

    def rejects(self) -> Rejects:
        """What is left out of the files, by reason; the first time it reads the files."""
        self.span()
        everything = Rejects()
        for part in (self._table_rejects, self._read_rejects, self._late_rejects):
            everything.update(part)
        return everything

    def _note_late(self, num_duplicates: int, num_lost: int) -> None:
        """What a whole pass has left out; each pass leaves out the same."""
        self._late_rejects = Rejects()
        self._late_rejects.add(DUPLICATE, num_duplicates)
        self._late_rejects.add(LOST, num_lost)


def _between(rows: pl.DataFrame, from_ms: int | None, to_ms: int | None) -> pl.DataFrame:
    ts = rows["ts"]
    start = 0 if from_ms is None else int(ts.search_sorted(from_ms, side="left"))
    end = len(ts) if to_ms is None else int(ts.search_sorted(to_ms, side="left"))
    return rows[start : max(start, end)]
