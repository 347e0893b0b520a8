"""Whatever a file is packed, encoded and separated by, the same rows come of it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from backports import zstd
from support.log_files import CLICK, MAPPING, open_mapping, rows_of

from simulators.logs.errors import DataError
from simulators.logs.mapped_log import ReadSizes

ROWS = [
    ("u1", "caf\xe9, noir", 10, 1, 'a "b"'),
    ("u2", "i2", 11, 0, "x"),
    ("007", "i3", 12, 1, ""),
    ("u1", "i2", 12, 0, "\xfcber"),
]
NAMES = ("user", "item", "ts", "click", "tag")
FIELD = '\n[[fields]]\nname = "tag"\ngroup = "context"\nkind = "categorical"\n'


def _lines(separator: str, quote: Callable[[str], str], end: str = "\n", header: bool = True) -> str:
    rows = [[quote(str(value)) for value in row] for row in ROWS]
    return "".join(separator.join(row) + end for row in ([list(NAMES)] if header else []) + rows)


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _plain(value: str) -> str:
    return value


CSV = _lines(",", _quoted)
JSONL = "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)
CASES = {
    "csv": ("log.csv", CSV.encode(), ""),
    "csv without a line's end at the end": ("log.csv", CSV.rstrip("\n").encode(), ""),
    "byte order mark": ("log.csv", b"\xef\xbb\xbf" + CSV.encode(), ""),
    "CRLF": ("log.csv", _lines(",", _quoted, "\r\n").encode(), ""),
    "blank lines": ("log.csv", CSV.replace("\n", "\n\n").encode(), ""),
    "latin-1": ("log.csv", CSV.encode("latin-1"), 'encoding = "latin-1"'),
    "gz": ("log.csv.gz", gzip.compress(CSV.encode()), ""),
    "zst": ("log.csv.zst", zstd.compress(CSV.encode()), ""),
    "gz of several members": ("log.csv.gz", gzip.compress(CSV[:50].encode()) + gzip.compress(CSV[50:].encode()), ""),
    "tsv": ("log.tsv", _lines("\t", _plain).encode(), ""),
    "semicolons": ("log.txt", _lines(";", _quoted).encode(), 'separator = ";"'),
    "two colons": (
        "log.dat",
        _lines("::", _plain, header=False).encode(),
        f'separator = "::"\ncolumns = {list(NAMES)}',
    ),
    "jsonl": ("log.jsonl", JSONL.encode(), ""),
    "jsonl.gz": ("log.jsonl.gz", gzip.compress(JSONL.encode()), ""),
    "jsonl CRLF": ("log.jsonl", JSONL.replace("\n", "\r\n").encode(), ""),
    "jsonl of mixed types": ("log.jsonl", JSONL.replace('"click": 1', '"click": true').encode(), "types = {}"),
}


@pytest.mark.parametrize("block_bytes", [40, 1 << 20])
@pytest.mark.parametrize("case", CASES)
def test_every_form_gives_the_same_rows(tmp_path: Path, case: str, block_bytes: int) -> None:
    name, content, options = CASES[case]
    (tmp_path / name).write_bytes(content)
    when = CLICK if "mixed" not in case else CLICK.replace("click = 1", "click in ('true', '1')")
    if "mixed" in case:
        options = 'types = { click = "text" }'
    log = open_mapping(tmp_path, MAPPING + options + when + FIELD, ReadSizes(block_bytes=block_bytes))
    _expect(log)


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pl.DataFrame(ROWS, schema=list(NAMES), orient="row").write_parquet(tmp_path / "log.parquet")
    _expect(open_mapping(tmp_path, MAPPING + CLICK + FIELD))


def test_times_of_parquet_have_their_own_unit(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=list(NAMES), orient="row")
    frame.with_columns(pl.from_epoch("ts", "s")).write_parquet(tmp_path / "log.parquet")
    _expect(open_mapping(tmp_path, MAPPING + CLICK + FIELD))


def _expect(log: object) -> None:
    rows = rows_of(log)  # type: ignore[arg-type]
    assert rows["user_id"].to_list() == [row[0] for row in ROWS]
    assert rows["item_id"].to_list() == [row[1] for row in ROWS]
    assert rows["ts"].to_list() == [1000 * row[2] for row in ROWS]
    assert rows["feedback.0"].to_list() == [row[3] == 1 for row in ROWS]
    assert [tag or "" for tag in rows["feature.tag"]] == [row[4] for row in ROWS]
    assert rows["imp_id"].to_list() == ["r0", "r1", "r2", "r3"]
    assert rows["shown"].all()
    assert log.rejects().counts == {}  # type: ignore[attr-defined]


def test_quotes_may_hold_lines_and_stray_ones_lose_no_row(tmp_path: Path) -> None:
    text = 'user,item,ts,click\nu1,"two\nlines",1,1\nu2,24" screen,2,0\nu3,i3,3,0\nu4,17" screen,4,1\nu5,i5,5,0\n'
    (tmp_path / "log.csv").write_text(text)
    for block_bytes in (24, 1 << 20):
        log = open_mapping(tmp_path, MAPPING + CLICK, ReadSizes(block_bytes=block_bytes))
        rows = rows_of(log)
        assert rows["user_id"].to_list() == ["u1", "u2", "u3", "u4", "u5"]
        assert rows["item_id"].to_list() == ["two\nlines", '24" screen', "i3", '17" screen', "i5"]


def test_a_quote_that_is_not_closed_costs_its_row_only(tmp_path: Path) -> None:
    rows = [f"u{n},i{n},{n},0" for n in range(20_000)]
    rows[7] = 'u7,"i7,7,0'
    (tmp_path / "log.csv").write_text("\n".join(["user,item,ts,click", *rows]) + "\n")
    log = open_mapping(tmp_path, MAPPING + CLICK)
    assert len(rows_of(log)) == 19_999
    assert log.rejects().counts == {"a quote that is not closed": 1}
    assert log.rejects().examples["a quote that is not closed"][0].row == 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv.gz", gzip.compress(CSV.encode() * 100)[:-20], "log.csv.gz is cut off"),
        ("log.csv.zst", zstd.compress(CSV.encode() * 100)[:-5], "log.csv.zst is cut off"),
        ("log.csv.gz", b"", "log.csv.gz is empty"),
        ("log.csv.gz", b"<html>not found</html>", "log.csv.gz is damaged, or not what its suffix says"),
        ("log.csv", b"", "log.csv is empty"),
        ("log.parquet", b"PAR1 and no more", "log.parquet is damaged or not Parquet"),
        ("log.csv", b"user,user,ts\nu,i,1\n", "log.csv: its first line is to name the columns, each once"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows_of(open_mapping(tmp_path, MAPPING + CLICK))


def test_files_that_are_not_there_are_an_error_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"no file in .* matches log\* .*there are mapping.toml, other.csv"):
        open_mapping(tmp_path, MAPPING + CLICK)


def test_objects_in_objects_are_columns(tmp_path: Path) -> None:
    lines = [
        '{"who": {"id": "u1"}, "item": "i", "ts": 1, "click": 1, "tags": ["a", "b"]}',
        '{"who": {"id": "u2"}, "item": "j", "ts": 2}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    field = '\n[[fields]]\nname = "tags"\ngroup = "item"\nkind = "multi"\n'
    log = open_mapping(tmp_path, MAPPING.replace('user = "user"', 'user = "who.id"') + CLICK + field)
    rows = rows_of(log)
    assert rows["user_id"].to_list() == ["u1", "u2"]
    assert rows["feature.tags"].to_list() == [["a", "b"], None]
    assert rows["feedback.0"].to_list() == [True, False]
