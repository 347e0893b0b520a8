"""Data: the MovieLens sources and their checks."""

import gzip
from pathlib import Path

import pytest

from simulators.logs import movielens
from simulators.logs.movielens import DataError
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


def test_files_are_parsed_in_the_order_of_time(tiny: dict[str, bytes]) -> None:
    data = movielens.parse(tiny, "test")
    assert data.ratings["user_id"].to_list() == ["2", "1", "1"]
    assert data.ratings["item_id"].to_list() == ["661", "1193", "661"]
    assert data.ratings["ts"].to_list() == [978300700000, 978300760000, 978300760000]
    assert data.items["661"] == {"title": ["associ", "l'"], "year": "1996", "genres": ["Comedy", "Drama"]}
    assert data.users["2"] == {"gender": "M", "age": "56", "occupation": "16"}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_is_taken_plain_or_gzipped(tiny: dict[str, bytes], tmp_path: Path, suffix: str) -> None:
    for name, value in tiny.items():
        (tmp_path / f"{name}.dat{suffix}").write_bytes(gzip.compress(value) if suffix else value)
    files, source = movielens.find(tmp_path, tmp_path / "cache")
    assert (files, source) == (tiny, str(tmp_path))
    assert movielens.check(files) is False
    movielens.save(files, tmp_path / "cache")
    assert movielens.find(None, tmp_path / "cache")[0] == tiny


def test_a_truncated_file_is_refused(tiny: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="ratings has 2 rows, expected 3"):
        movielens.check({**tiny, "ratings": tiny["ratings"][:40]})


def test_recbole_files_become_the_originals_form(tiny: dict[str, bytes]) -> None:
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
    movielens.check(files)
    data = movielens.parse(files, "recbole")
    assert data.users == movielens.parse(tiny, "test").users
    assert data.ratings["rating"].to_list() == [3, 5, 4]
    assert [data.items[i]["title"][0] for i in data.ratings["item_id"]] == ["associe", "toy", "associe"]
    assert {i["year"] for i in data.items.values()} == {"1995", "1996"}


@pytest.mark.skipif(not Path("../shared/data/ml-1m").is_dir(), reason="../shared/data/ml-1m is not there")
def test_the_shared_copy_is_the_original() -> None:
    files, source = movielens.find(None, Path("does-not-exist"))
    assert source == "../shared/data/ml-1m"
    assert movielens.check(files) is True


def test_partitions_are_those_of_kafkas_default_partitioner() -> None:
    """Values of org.apache.kafka.common.utils.Utils.murmur2, as Kafka's own tests list them."""
    from kafka.partitioner.default import murmur2

    assert murmur2(b"21") & 0xFFFFFFFF == -973932308 & 0xFFFFFFFF
    assert murmur2(b"foobar") & 0xFFFFFFFF == -790332482 & 0xFFFFFFFF
    assert partition_of("21", 100) == (-973932308 & 0x7FFFFFFF) % 100
