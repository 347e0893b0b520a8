"""Rows come by time, whatever order the files have them in; nothing twice, nothing lost."""

import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.log_files import CLICK, MAPPING, open_mapping, rows_of, write

from simulators.logs.mapped_log import ReadSizes

HEADER = "user,item,ts,click"


def _csv(rows: list[tuple[str, str, int, int]]) -> list[str]:
    return [HEADER, *(",".join(map(str, row)) for row in rows)]


def _expected(files: list[list[tuple[str, str, int, int]]]) -> list[tuple[str, str, int, bool]]:
    """By Python: exact duplicates out, the first stays; by time, ties in the order of files and rows."""
    distinct = list(dict.fromkeys(row for rows in files for row in rows))
    return [(u, i, 1000 * ts, click == 1) for u, i, ts, click in sorted(distinct, key=lambda row: row[2])]


ROW = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 6), st.integers(0, 1))
FILES = st.lists(st.lists(ROW, max_size=25), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, run_rows=st.integers(1, 8), stretch_rows=st.integers(1, 9), block_bytes=st.integers(10, 60))
def test_disorder_and_duplicates_in_small_pieces(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[tuple[str, str, int, int]]],
    run_rows: int,
    stretch_rows: int,
    block_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    for n, rows in enumerate(files):
        write(folder, f"log_{n}.csv", *_csv(rows))
    sizes = ReadSizes(block_bytes=block_bytes, run_rows=run_rows, stretch_rows=stretch_rows)
    log = open_mapping(folder, MAPPING + CLICK, sizes)
    expected = _expected(files)
    for _ in range(2):
        stretches = list(log.stretches())
        got = [row for rows in stretches for row in rows.select("user_id", "item_id", "ts", "feedback.0").rows()]
        assert got == expected
        assert [len(rows) for rows in stretches[:-1]] == [stretch_rows] * (len(stretches) - 1)
        assert [n for rows in stretches for n in rows["imp_id"]] == [f"r{n}" for n in range(len(expected))]
    ts = [row[2] for row in expected]
    assert log.span() == ((len(ts), ts[0], ts[-1]) if ts else (0, 0, 0))
    assert log.rejects().counts.get("an exact duplicate", 0) == sum(map(len, files)) - len(expected)


def test_many_runs_are_merged_as_one_sort_would(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [(f"u{n}", f"i{n}", rng.randrange(500), n % 2) for n in range(5000)]
    write(tmp_path, "log.csv", *_csv(rows))
    log = open_mapping(tmp_path, MAPPING + CLICK, ReadSizes(block_bytes=2000, run_rows=300))
    got = rows_of(log).select("user_id", "item_id", "ts", "feedback.0").rows()
    assert got == _expected([rows])


def test_a_span_of_the_log(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", *_csv([("u", f"i{n}", n, 0) for n in range(10)]))
    log = open_mapping(tmp_path, MAPPING + CLICK, ReadSizes(block_bytes=20, stretch_rows=3))
    part = pl.concat(list(log.stretches(from_ms=3000, to_ms=8000)))
    assert part["imp_id"].to_list() == ["r3", "r4", "r5", "r6", "r7"]
    assert pl.concat(list(log.stretches(num_rows=2, from_ms=3000)))["imp_id"].to_list() == ["r3", "r4"]
    assert list(log.stretches(from_ms=99_000)) == []


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        "u,i,1,0",
        ",i,2,0",
        "u,,3,0",
        "u,i,,0",
        "u,i,soon,0",
        "u,i,-5,0",
        "u,i,99999999999999,0",
        f"{'x' * 257},i,4,0",
    ]
    rows += ["u,i,5,0,more", "u,i,6,yes", "u,i,7,1"]
    write(tmp_path, "log.csv", HEADER, *rows)
    (tmp_path / "log.csv").open("ab").write(b"\xff,i,8,0\n")
    log = open_mapping(tmp_path, MAPPING + 'types = { click = "number" }' + CLICK)
    assert rows_of(log)["ts"].to_list() == [1000, 7000]
    rejects = log.rejects()
    assert rejects.counts == {
        "no user": 1,
        "no item": 1,
        "no time": 1,
        "time is not a number": 1,
        "time out of range": 2,
        "user id longer than 256 characters": 1,
        "more fields than columns": 1,
        "click is not a number": 1,
        "not in the file's encoding": 1,
    }
    example = rejects.examples["time is not a number"][0]
    assert (example.file, example.row, example.text) == ("log.csv", 5, "u, i, soon, 0")


def test_lines_that_are_no_objects_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        "log.jsonl",
        '{"user":"u","item":"i","ts":1,"click":0}',
        "{broken",
        '{"user":"v","item":"i","ts":2,"click":1}',
        "[1]",
    )
    log = open_mapping(tmp_path, MAPPING + CLICK)
    assert rows_of(log)["user_id"].to_list() == ["u", "v"]
    assert log.rejects().counts == {"not a JSON object": 2}


PEAK = """
import resource, sys
from pathlib import Path
from simulators.logs.mapped_log import MappedLog
from simulators.logs.mapping import load_mapping
folder = Path(sys.argv[1])
log = MappedLog(load_mapping(folder / "mapping.toml"), "mapping.toml", folder)
rows = sum(len(rows) for rows in log.stretches())
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _peak_mb(folder: Path, num_files: int, *, is_sorted: bool) -> tuple[int, int]:
    """Rows and peak memory of reading so many files of half a million rows, in a process of its own."""
    folder.mkdir()
    for n in range(num_files):
        at = pl.int_range(500_000, dtype=pl.Int64, eager=True)
        ts = at + 500_000 * n if is_sorted else at.shuffle(seed=n)
        frame = pl.DataFrame(
            {"user": at % 5000, "item": at % 777 + 1000 * n, "ts": ts, "click": at % 2, "text": ["x" * 60] * 500_000}
        )
        frame.write_csv(folder / f"log_{n}.csv")
    field = '\n[[fields]]\nname = "text"\ngroup = "context"\nkind = "categorical"\n'
    (folder / "mapping.toml").write_text(MAPPING + CLICK + field)
    answer = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True)
    rows, peak = answer.stdout.split()
    return int(rows), int(peak)


@pytest.mark.slow
@pytest.mark.parametrize("is_sorted", [True, False])
def test_memory_does_not_grow_with_the_log(tmp_path: Path, is_sorted: bool) -> None:
    small = _peak_mb(tmp_path / "small", 4, is_sorted=is_sorted)
    large = _peak_mb(tmp_path / "large", 12, is_sorted=is_sorted)
    assert (small[0], large[0]) == (2_000_000, 6_000_000)
    # Three times the rows are 400 MB more of text.
    assert large[1] < small[1] + 200
