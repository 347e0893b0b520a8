"""Data: the MovieLens sources and their checks."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from simulators.logs import movielens
from simulators.logs.errors import DataError
from simulators.logs.log import Log
from simulators.logs.open import open_log
from stream.partitioning import partition_of

FILES = {
    "ratings": b"1::1193::5::978300760\n2::661::3::978300700\n1::661::4::978300760\n",
    "users": b"1::F::1::10::48067\n2::M::56::16::70072\n",
    "movies": "661::Associ\xe9, L'(1996)::Comedy|Drama\n1193::Toy Story (1995)::Animation\n".encode("latin-1"),
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Three ratings pass for the whole."""
    for name, value in (("NUM_RATINGS", 3), ("NUM_USERS", 2), ("NUM_MOVIES", 2)):
        monkeypatch.setattr(movielens, name, value)
    return FILES


def opened(files: dict[str, bytes], folder: Path) -> tuple[pl.DataFrame, Log]:
    """The whole log of some files."""
    for name, value in files.items():
        (folder / f"{name}.dat").write_bytes(value)
    log = open_log("ml-1m", folder)
    return pl.concat(list(log.stretches())), log


def test_files_are_read_in_the_order_of_time(tiny: dict[str, bytes], tmp_path: Path) -> None:
    rows, log = opened(tiny, tmp_path)
    assert rows["user_id"].to_list() == ["2", "1", "1"]
    assert rows["item_id"].to_list() == ["661", "1193", "661"]
    assert rows["ts"].to_list() == [978300700000, 978300760000, 978300760000]
    assert log.items.get("661", 0) == {
        "title": ["associ", "l'"],
        "year": "1996",
        "decade": "199",
        "genres": ["Comedy", "Drama"],
    }
    assert log.users.get("2", 0) == {"gender": "M", "age": "56", "occupation": "16"}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_is_taken_plain_or_gzipped(tiny: dict[str, bytes], tmp_path: Path, suffix: str) -> None:
    for name, value in tiny.items():
        (tmp_path / f"{name}.dat{suffix}").write_bytes(gzip.compress(value) if suffix else value)
    files, source = movielens.find(tmp_path, tmp_path / "cache")
    assert (files, source) == (tiny, str(tmp_path))
    assert movielens.check(files, source) is False
    movielens.save(files, tmp_path / "cache")
    assert movielens.find(None, tmp_path / "cache")[0] == tiny


def test_a_truncated_file_is_refused(tiny: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match=r"/some/folder: ratings\.dat has 2 rows, expected 3"):
        movielens.check({**tiny, "ratings": tiny["ratings"][:40]}, "/some/folder")


WRONG = {
    "cut off": gzip.compress(FILES["ratings"])[:-12],
    "empty": b"",
    "a page": b"<html>not found</html>",
    "rows missing": gzip.compress(FILES["ratings"][:40]),
    "damaged": gzip.compress(FILES["ratings"])[:20] + b"\xff" * 20,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_not_whole_is_named(tiny: dict[str, bytes], tmp_path: Path, name: str) -> None:
    for each, value in tiny.items():
        (tmp_path / f"{each}.dat.gz").write_bytes(WRONG[name] if each == "ratings" else gzip.compress(value))
    with pytest.raises(DataError, match=rf"{tmp_path}.*ratings\.dat.* anew"):
        movielens.provide(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", WRONG)
def test_a_kept_copy_that_is_not_whole_is_fetched_anew(
    tiny: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    movielens.save(tiny, other)
    monkeypatch.setattr(movielens, "_SHARED", other)
    movielens.save(tiny, cache)
    (cache / "ratings.dat.gz").write_bytes(WRONG[name])
    assert movielens.provide(None, cache) == other
    assert "ratings.dat" in capsys.readouterr().err
    assert [path.name for path in cache.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize("change", ["CRLF", "byte order mark"])
def test_line_ends_and_byte_order_marks_do_not_matter(tiny: dict[str, bytes], tmp_path: Path, change: str) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "changed").mkdir()
    changed = {
        name: value.replace(b"\n", b"\r\n") if change == "CRLF" else b"\xef\xbb\xbf" + value
        for name, value in tiny.items()
        if name != "movies"
    }
    rows, log = opened(tiny, tmp_path / "plain")
    others, other = opened({**tiny, **changed}, tmp_path / "changed")
    assert others.equals(rows)
    assert [other.users.get(user, 0) for user in ("1", "2")] == [log.users.get(user, 0) for user in ("1", "2")]


def test_recbole_files_become_the_originals_form(tiny: dict[str, bytes], tmp_path: Path) -> None:
    atomic = {
        "ml-1m.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"1m_1\tToy Story\t5\t978300760\n1m_2\tAssocie, L'\t3\t978300700\n1m_1\tAssocie, L'\t4.0\t978300760\n",
        "ml-1m.user": b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        b"1m_1\t1\tF\t10\t48067\n1m_2\t56\tM\t16\t70072\n",
        "ml-1m.item": b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        b"Associe, L'\tAssocie, L'\t1996\tComedy Drama\nToy Story\tToy Story\t1995\tAnimation\n",
    }
    files = movielens._from_recbole(atomic)
    assert files is not None
    movielens.check(files, "the wheel")
    rows, log = opened(files, tmp_path)
    assert rows["feedback.0"].to_list() == [False, True, True]
    items = [log.items.get(item, 0) for item in rows["item_id"]]
    assert [item["title"][0] for item in items] == ["associe", "toy", "associe"]
    assert {item["year"] for item in items} == {"1995", "1996"}
    assert log.users.get("2", 0) == {"gender": "M", "age": "56", "occupation": "16"}


@pytest.mark.skipif(not Path("../shared/data/ml-1m").is_dir(), reason="../shared/data/ml-1m is not there")
def test_the_shared_copy_is_the_original() -> None:
    files, source = movielens.find(None, Path("does-not-exist"))
    assert source == "../shared/data/ml-1m"
    assert movielens.check(files, source) is True


def test_partitions_are_those_of_kafkas_default_partitioner() -> None:
    """Values of org.apache.kafka.common.utils.Utils.murmur2, as Kafka's own tests list them."""
    from kafka.partitioner.default import murmur2

    assert murmur2(b"21") & 0xFFFFFFFF == -973932308 & 0xFFFFFFFF
    assert murmur2(b"foobar") & 0xFFFFFFFF == -790332482 & 0xFFFFFFFF
    assert partition_of("21", 100) == (-973932308 & 0x7FFFFFFF) % 100
