"""The mappings that are shipped: on the real data where it is at hand, else on small files of that form."""

import gzip
import re
from pathlib import Path

import polars as pl
import pytest
from support.log_files import rows_of, write

from learner.config import FieldSettings
from simulators.logs.errors import DataError, MappingError
from simulators.logs.log import Log
from simulators.logs.mapped_log import MappedLog
from simulators.logs.mapping import load_mapping, shipped
from simulators.logs.open import open_log
from stream.settings import Settings

SHARED = Path("../shared/data")


def real(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"{SHARED / name} is not there")


def _open(name: str, folder: Path) -> MappedLog:
    log = open_log(name, folder)
    assert isinstance(log, MappedLog)
    return log


@pytest.mark.parametrize("name", shipped())
def test_every_mapping_says_what_it_is_and_declares_fields_that_settings_take(name: str) -> None:
    mapping = load_mapping(shipped()[name])
    assert mapping.name == name
    assert mapping.title
    assert mapping.licence
    assert mapping.get
    fields = [FieldSettings(f.name, f.group, f.kind, f.state, f.min_count) for f in mapping.fields]
    assert Settings(fields=tuple(fields))


@pytest.mark.slow
@real("ml-1m")
def test_movielens_1m_is_what_a_plain_parse_gives() -> None:
    """Ids, order, times, labels, features and the order of their keys."""
    log = _open("ml-1m", SHARED / "ml-1m")
    text = {n: gzip.decompress((SHARED / f"ml-1m/{n}.dat.gz").read_bytes()) for n in ("ratings", "users", "movies")}
    ratings = [line.split("::") for line in text["ratings"].decode().splitlines()]
    ratings.sort(key=lambda row: int(row[3]))
    rows = rows_of(log)
    assert rows["user_id"].to_list() == [row[0] for row in ratings]
    assert rows["item_id"].to_list() == [row[1] for row in ratings]
    assert rows["ts"].to_list() == [1000 * int(row[3]) for row in ratings]
    assert rows["imp_id"].to_list() == [f"r{n}" for n in range(len(ratings))]
    assert rows["feedback.0"].to_list() == [int(row[2]) >= 4 for row in ratings]
    assert rows["shown"].all()
    assert (log.feedback[0].action, log.feedback[0].delay.median_s, log.feedback[0].delay.sigma) == ("like", 20, 1.5)  # type: ignore[union-attr]
    for line in text["users"].decode("latin-1").splitlines():
        user, gender, age, occupation, _ = line.split("::")
        assert list(log.users.get(user, 0).items()) == [("gender", gender), ("age", age), ("occupation", occupation)]
    for line in text["movies"].decode("latin-1").splitlines():
        item, title, genres = line.split("::")
        match = re.fullmatch(r"(.*?)\s*\((\d{4})\)\s*", title)
        assert match is not None
        words = re.findall(r"[a-z0-9']+", match[1].lower())[:10]
        expected = [("title", words), ("year", match[2]), ("genres", genres.split("|")), ("decade", match[2][:3])]
        assert list(log.items.get(item, 0).items()) == expected
    assert (len(log.users), len(log.items)) == (6040, 3883)
    fields = [FieldSettings(**field) for field in log.settings["fields"]]
    assert tuple(fields) == Settings().fields


@real("kuairand-pure")
def test_kuairand_is_what_a_plain_parse_gives() -> None:
    log = _open("kuairand-pure", SHARED / "kuairand-pure")
    rows = rows_of(log)
    path = SHARED / "kuairand-pure/log_standard_4_25_to_5_01_pure.csv.gz"
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    parsed = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    parsed.sort(key=lambda row: int(row["time_ms"]))
    assert rows["user_id"].to_list() == [row["user_id"] for row in parsed]
    assert rows["ts"].to_list() == [int(row["time_ms"]) for row in parsed]
    actions = [rule.action for rule in log.feedback]
    for action, column in (("click", "is_click"), ("hate", "is_hate"), ("long_view", "long_view")):
        got = rows[f"feedback.{actions.index(action)}"].to_list()
        assert got == [row[column] == "1" for row in parsed]
    play = actions.index("play")
    for value, ts, row in zip(rows[f"value.{play}"], rows[f"ts.{play}"], parsed, strict=True):
        assert value == pytest.approx(int(row["play_time_ms"]) / 1000)
        assert ts == (int(row["time_ms"]) + int(row["play_time_ms"]) if row["play_time_ms"] != "0" else None)
    assert rows["domain"].to_list() == [row["tab"] for row in parsed]
    assert log.items.get("5", 0)["tag"] == ["20", "43"]
    assert log.users.get("98", 0)["follow_user_num_range"] == "(250,500]"
    assert log.rejects().counts == {}


@real("kuairand-pure")
def test_further_weeks_need_no_other_mapping(tmp_path: Path) -> None:
    for name in ("user_features_pure.csv.gz", "video_features_basic_pure.csv.gz"):
        (tmp_path / name).write_bytes((SHARED / "kuairand-pure" / name).read_bytes())
    head = (
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
        "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
    )
    row = "{},{},20220425,0,{},1,0,0,0,0,0,1,5000,49866,0,0,0,{},1"
    write(tmp_path, "log_standard_4_08_to_4_21_pure.csv", head, row.format(1, 2, 1000, 0), row.format(1, 3, 3000, 0))
    write(tmp_path, "log_standard_4_22_to_5_08_pure.csv", head, row.format(1, 4, 4000, 0))
    write(tmp_path, "log_random_4_22_to_5_08_pure.csv", head, row.format(1, 5, 2000, 1))
    rows = rows_of(_open("kuairand-pure", tmp_path))
    assert rows["item_id"].to_list() == ["2", "5", "3", "4"]


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m"])
def test_movielens_with_half_stars(tmp_path: Path, name: str) -> None:
    write(tmp_path, "ratings.csv", "userId,movieId,rating,timestamp", "1,2,3.5,1112486027", "1,29,4.0,1112484676")
    movies = ['29,"City of Lost Children, The (1995)",Adventure|Drama', "2,Amélie,(no genres listed)"]
    write(tmp_path, "movies.csv", "movieId,title,genres", *movies)
    log = _open(name, tmp_path)
    rows = rows_of(log)
    assert rows.select("item_id", "ts", "feedback.0", "value.1").rows() == [
        ("29", 1112484676000, True, 4.0),
        ("2", 1112486027000, False, 3.5),
    ]
    assert log.items.get("29", 0) == {
        "title": ["city", "of", "lost", "children", "the"],
        "year": "1995",
        "genres": ["Adventure", "Drama"],
    }
    assert log.items.get("2", 0) == {"title": ["amélie"], "genres": ["(no genres listed)"]}


def test_kuairec(tmp_path: Path) -> None:
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    rows = ["0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.273397"]
    rows += ["0,9598,30000,10984,2020-07-05 00:13:41.297,20200705,1593879221.297,2.73", "0,1,1,1,,,,1.0"]
    write(tmp_path, "big_matrix.csv", head, *rows)
    users = (
        "user_id,user_active_degree,is_video_author,follow_user_num_range,fans_user_num_range,friend_user_num_range,"
    )
    write(tmp_path, "user_features.csv", users + "register_days_range", '0,high_active,0,"(0,10]","[1,10)",0,61-90')
    write(tmp_path, "item_categories.csv", "video_id,feat", '3649,"[27, 9]"', "9598,[8]")
    head = "video_id,date,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,video_tag_id"
    daily = ["3649,20200704,7,NORMAL,2020-07-03,ShortImport,public,10867,841"]
    later = daily[0].replace("20200704", "20200706").replace("public,10867", "public,9000")
    write(tmp_path, "item_daily_features.csv", head, *daily, later)
    log = _open("kuairec", tmp_path)
    got = rows_of(log)
    assert got["ts"].to_list() == [1593878903438, 1593879221297]
    assert got.select("feedback.0", "feedback.1", "ts.2").rows() == [
        (False, True, 1593878903438 + 13838),
        (True, True, 1593879221297 + 30000),
    ]
    assert got["value.2"].to_list() == pytest.approx([13.838, 30.0])
    assert log.items.get("3649", 1593878903438)["feat"] == ["27", "9"]
    assert log.items.get("3649", 1593878903438)["video_duration"] == pytest.approx(10.867)
    assert log.items.get("3649", 1594000000000)["video_duration"] == pytest.approx(9.0)
    assert log.users.get("0", 0)["fans_user_num_range"] == "[1,10)"
    assert log.rejects().counts == {"no time": 1}


def test_criteo(tmp_path: Path) -> None:
    head = [
        "timestamp",
        "uid",
        "campaign",
        "conversion",
        "conversion_timestamp",
        "conversion_id",
        "attribution",
        "click",
    ]
    head += ["click_pos", "click_nb", "cost", "cpo", "time_since_last_click", *(f"cat{n}" for n in range(1, 10))]
    cats = ["5824233", "9312274", "3490278", "29196072", "11409686", "1973606", "25162884", "29196072", "29196072"]
    rows = [["0", "20073966", "22589171", "0", "-1", "-1", "0", "0", "-1", "-1", "1e-05", "0.39", "-1", *cats]]
    rows += [
        ["2", "28426333", "18975823", "1", "1449193", "3063962", "0", "1", "-1", "-1", "0.0003", "0.2", "423858", *cats]
    ]
    data = "".join("\t".join(row) + "\n" for row in [head, *rows])
    (tmp_path / "criteo_attribution_dataset.tsv.gz").write_bytes(gzip.compress(data.encode()))
    log = _open("criteo", tmp_path)
    got = rows_of(log)
    assert got.select("user_id", "item_id", "ts").rows() == [
        ("20073966", "22589171", 0),
        ("28426333", "18975823", 2000),
    ]
    assert got.select("feedback.0", "ts.0", "feedback.1", "ts.1", "value.1").rows() == [
        (False, None, False, None, 0.39),
        (True, 2000, True, 1449193000, 0.2),
    ]
    assert got["feature.cat9"].to_list() == ["29196072"] * 2
    assert got["feature.cost"].to_list() == [1e-05, 0.0003]


def test_yambda(tmp_path: Path) -> None:
    def frame(rows: list[tuple[int, ...]]) -> pl.DataFrame:
        schema = {"uid": pl.UInt32, "timestamp": pl.UInt32, "item_id": pl.UInt32, "is_organic": pl.UInt8}
        more = {"played_ratio_pct": pl.UInt16, "track_length_seconds": pl.UInt32}
        return pl.DataFrame(rows, schema=schema | more if len(rows[0]) > 4 else schema, orient="row")

    # By user, then by time, as the data set has them.
    frame([(10, 50, 1, 1, 100, 200), (10, 900, 2, 0, 20, 180), (20, 5, 2, 1, 150, 180)]).write_parquet(
        tmp_path / "listens.parquet"
    )
    frame([(10, 100, 1, 1), (20, 5, 9, 1)]).write_parquet(tmp_path / "likes.parquet")
    frame([(10, 905, 2, 0)]).write_parquet(tmp_path / "dislikes.parquet")
    log = _open("yambda", tmp_path)
    got = rows_of(log)
    assert got.filter("shown").select("user_id", "item_id", "ts", "imp_id", "feedback.0", "ts.0").rows() == [
        ("20", "2", 5000, "r0", True, 185000),
        ("10", "1", 50000, "r2", True, 250000),
        ("10", "2", 900000, "r4", False, None),
    ]
    assert got.filter("feedback.1").select("imp_id", "ts.1").rows() == [("r2", 100000)]
    assert got.filter("feedback.2").select("imp_id", "ts.2").rows() == [("r4", 905000)]
    assert log.rejects().counts == {"feedback to no impression": 1}
    assert got["feature.track_length_seconds"][0] == 180


@real("amazon")
def test_amazon_reviews_are_sequences_with_negatives() -> None:
    log = _open("amazon-reviews", SHARED / "amazon")
    rows = rows_of(log)
    positives = rows.filter("feedback.0")
    one = positives.filter(pl.col("user_id") == "Industrial_and_Scientific:A4042")
    assert one["item_id"].to_list() == [
        f"Industrial_and_Scientific:{n}" for n in (3112, 114, 2697, 2393, 2660, 3167, 2058, 1487)
    ]
    assert (one["ts"].diff().drop_nulls() == 86_400_000).all()
    assert 4.5 < len(rows) / len(positives) <= 5
    # Nobody is shown as a negative what they have had before.
    assert rows["domain"].unique().sort().to_list() == ["Industrial_and_Scientific", "Office_Products"]
    assert log.items.get("Office_Products:0", 0)["brand"] == "HP"
    assert log.rejects().counts == {}


@pytest.mark.slow
@real("amazon")
def test_amazon_video_games_are_lists_of_text() -> None:
    log = _open("amazon-video-games", SHARED / "amazon")
    first = next(iter(log.stretches()))
    assert first["item_id"][0] == "0"
    assert log.items.get("0", 0) == {"title": ["fire", "emblem", "the", "sacred", "stones"]}
    text = gzip.decompress((SHARED / "amazon/Video_Games.test.inter.gz").read_bytes()).decode().splitlines()[1:]
    num_items = sum(len(line.split("\t")[1].split()) + 1 for line in text)
    assert sum(int(rows["feedback.0"].sum()) for rows in log.stretches()) == num_items


def test_the_synthetic_log_is_a_log() -> None:
    log: Log = open_log("synthetic", num_synthetic=500, seed=3)
    rows = pl.concat(list(log.stretches()))
    assert log.span() == (500, rows["ts"][0], rows["ts"][-1])
    assert set(rows["user_id"]) <= {str(n) for n in range(1000)}
    assert 0 < rows["feedback.0"].sum() < 500
    assert list(log.items.get(rows["item_id"][0], 0)) == ["title", "year", "genres"]


def test_a_log_that_is_unknown_or_has_no_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"--log ml-2m: neither a mapping file nor a known name \(amazon-reviews"):
        open_log("ml-2m")
    with pytest.raises(DataError, match=r"there is no folder .*; give the folder of its files by --data DIR"):
        open_log("criteo", tmp_path / "none")
    with pytest.raises(DataError, match=r"ratings.dat, users.dat and movies.dat .* are not all there"):
        open_log("ml-1m", tmp_path)


@real("ml-1m")
def test_a_cut_off_copy_of_movielens_is_named(tmp_path: Path) -> None:
    for path in (SHARED / "ml-1m").glob("*.gz"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"ratings.dat.gz is cut off"):
        open_log("ml-1m", tmp_path)
