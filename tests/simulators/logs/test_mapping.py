"""What a mapping says comes true, and a wrong one is told what is wrong."""

from pathlib import Path

import polars as pl
import pytest
from support.log_files import CLICK, MAPPING, open_mapping, rows_of, write

from simulators.logs.errors import MappingError
from simulators.logs.mapped_log import ReadSizes
from simulators.logs.mapping import load_mapping

HEADER = "user,item,ts,click,rating,played,place,tab"
FIELD = '\n[[fields]]\nname = "{name}"\ngroup = "{group}"\nkind = "{kind}"\n{more}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "log.csv", HEADER, "u1,i1,1,1,4.5,2500,0,home", "u2,i2,2,0,,,7,feed", "u1,i2,3,1,x,100,-1,")
    return tmp_path


WRONG = [
    (
        'user = "user"',
        'user = "usr"',
        r"mapping.toml: log.user = 'usr': there is no column 'usr'; .*log.csv has the col",
    ),
    ('time = "ts"', 'time = "ts +"', r"log.time = 'ts \+': is neither a column nor an expression"),
    ("click = 1", "clicked = 1", r"feedback.click.when = 'clicked = 1': there is no column 'clicked'; .* has the col"),
    ("click = 1", "tab = 1", r"feedback.click.when = 'tab = 1': cannot compare string with numeric"),
    ('unit = "s"', 'unit = "h"', r"mapping.toml: log: unit 'h': expected s, ms, us, ns, iso, or a format"),
    ('unit = "s"', 'unit = "iso"\nzone = "Mars"', r"log: zone 'Mars' is unknown"),
    ('unit = "s"', 'units = "s"', r"log has an unknown field `units`; known here: files, format"),
    ('unit = "s"', 'encoding = "latin-9000"', r"encoding 'latin-9000' is unknown"),
    ('files = ["log*"]', "files = []", r"log.files: give at least one pattern"),
    ("when = ", "value = ", r"feedback 'click': give when"),
    ("when = ", 'after_ms = "1"\ndelay = {median_s = 1, sigma = 1}\nwhen = ', r"give one of time, after_ms and delay"),
    ('name = "small"', "name = ", r"mapping.toml: not valid TOML"),
    ('unit = "s"', 'unit = "s"\ntypes = { clicks = "text" }', r"types names the column 'clicks'"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_a_wrong_mapping_is_told_what_is_wrong(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        open_mapping(folder, (MAPPING + CLICK).replace(old, new))


def test_a_field_that_nothing_has_is_told_so(folder: Path) -> None:
    text = MAPPING + CLICK + FIELD.format(name="colour", group="item", kind="categorical", more="")
    with pytest.raises(MappingError, match=r"fields.colour.from = 'colour': .*no column 'colour'"):
        open_mapping(folder, text)
    text = text.replace("colour", "tab").replace('kind = "categorical"', 'kind = "categorical"\nmatch = "("')
    with pytest.raises(MappingError, match=r"fields\.tab"):
        open_mapping(folder, text)


def test_a_further_file_without_a_column_is_named(folder: Path) -> None:
    write(folder, "log_2.csv", "user,item,ts", "u,i,1")
    with pytest.raises(MappingError, match=r"reads the column 'click', which .*log.csv has and .*log_2.csv has not"):
        open_mapping(folder, MAPPING + CLICK)


def test_values_times_and_reserved_keys(folder: Path) -> None:
    more = """
domain = "tab"
position = "place"
[[feedback]]
action = "rate"
when = "played is not null"
value = "rating"
after_ms = "played * 2"
[[feedback]]
action = "like"
when = "click = 1"
delay = { median_s = 3, sigma = 0.5 }
"""
    log = open_mapping(folder, MAPPING + more)
    rows = rows_of(log)
    assert rows["domain"].to_list() == ["home", "feed", None]
    assert rows["position"].to_list() == [0, 7, None]
    assert rows["feedback.0"].to_list() == [True, False, True]
    assert rows["value.0"].to_list() == [4.5, None, None]
    assert rows["ts.0"].to_list() == [6000, None, 3200]
    assert rows["feedback.1"].to_list() == [True, False, True]
    assert "ts.1" not in rows.columns
    assert [rule.action for rule in log.feedback] == ["rate", "like"]
    assert log.settings["actions"] == {"names": ["rate", "like"]}
    assert [field["name"] for field in log.settings["fields"]] == ["user_id", "item_id"]


def test_settings_of_the_mapping_go_through(folder: Path) -> None:
    more = '[settings.actions]\npositive = ["b"]\n[settings.join]\nwindow_ms = 5\n[[settings.tasks]]\nname = "t"\n'
    settings = open_mapping(folder, MAPPING + CLICK + more).settings
    assert settings["actions"] == {"names": ["click"], "positive": ["b"]}
    # One server stamped a recorded log: nobody has to agree.
    assert (settings["join"], settings["tasks"]) == ({"time_users": 1, "window_ms": 5}, [{"name": "t"}])


@pytest.mark.parametrize(
    ("unit", "zone", "text", "ts"),
    [
        ("s", "", "1.5", 1500),
        ("ms", "", "1650812741436", 1650812741436),
        ("us", "", "1650812741436999", 1650812741436),
        ("ns", "", "1650812741436999999", 1650812741436),
        ("s", "", "1.650812741436e9", 1650812741436),
        ("iso", "", "2020-01-01T00:00:00Z", 1577836800000),
        ("iso", "", "2020-01-01 02:00:00.5+02:00", 1577836800500),
        ("iso", "Asia/Shanghai", "2020-01-01 08:00:00", 1577836800000),
        ("iso", "Asia/Shanghai", "2020-01-01", 1577808000000),
        ("%d/%m/%Y %H:%M", "Europe/Berlin", "01/01/2020 01:00", 1577836800000),
        ("%Y%m%d", "", "20200101", 1577836800000),
        ("%Y-%m-%dT%H:%M:%S%z", "", "2020-01-01T01:00:00+0100", 1577836800000),
    ],
)
def test_units_of_time(tmp_path: Path, unit: str, zone: str, text: str, ts: int) -> None:
    write(tmp_path, "log.csv", "user,item,ts,click", f"u,i,{text},1")
    mapping = (MAPPING + CLICK).replace('unit = "s"', f'unit = "{unit}"\nzone = "{zone}"')
    assert rows_of(open_mapping(tmp_path, mapping))["ts"].to_list() == [ts]


def test_tables_are_joined_as_of_the_impression(folder: Path) -> None:
    write(folder, "users.csv", "id,age,age_words", "u1,25,a young one", "u2,,")
    write(folder, "items.csv", "id,day,price,tags", "i1,0,5,a|b", "i2,2,7,c", "i1,9,6,", "i2,4,8,", ",1,1,")
    tables = """
[[tables]]
of = "user"
files = ["users.csv"]
key = "id"
[[tables]]
of = "item"
files = ["items.csv"]
key = "id"
time = "day"
"""
    fields = "".join(
        FIELD.format(name=name, group=group, kind=kind, more=more)
        for name, group, kind, more in (
            ("age", "user", "categorical", ""),
            ("is_adult", "user", "categorical", 'from = "age >= 18"'),
            ("words", "user", "multi", 'from = "age_words"\nwords = true\nlimit = 2'),
            ("tags", "item", "multi", 'split = "|"'),
            ("price", "item", "numeric", ""),
            ("tab", "context", "categorical", ""),
        )
    )
    log = open_mapping(folder, MAPPING + CLICK + tables + fields)
    assert log.users.get("u1", 0) == {"age": "25", "is_adult": "true", "words": ["a", "young"]}
    assert log.users.get("u2", 0) == {}
    assert log.items.get("i1", 8_999) == {"tags": ["a", "b"], "price": 5.0}
    assert log.items.get("i1", 9_000) == {"tags": ["a", "b"], "price": 6.0}
    assert log.items.get("i2", 1_999) == {}
    assert list(log.items.get("i2", 4_000)) == ["tags", "price"]
    assert rows_of(log)["feature.tab"].to_list() == ["home", "feed", None]
    assert log.rejects().counts == {"table: no key": 1}


OWN = """
[[feedback]]
action = "like"
files = ["likes.csv"]
user = "who"
time = "at"
within_s = 10
"""


def test_feedback_of_its_own_files_finds_its_impression(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "user,item,ts,click", "a,x,1,1", "a,y,2,0", "a,x,5,0", "b,x,6,0")
    likes = ["a,x,3", "a,x,5", "a,x,16", "a,x,1", "b,x,5", "c,x,6", "a,y,4"]
    write(tmp_path, "likes.csv", "who,item,at", *likes)
    for sizes in (None, ReadSizes(block_bytes=10, run_rows=2, stretch_rows=1)):
        log = open_mapping(tmp_path, MAPPING + CLICK + OWN, sizes)
        rows = rows_of(log)
        imp_id = {(u, ts // 1000): i for u, ts, i in rows.filter("shown").select("user_id", "ts", "imp_id").rows()}
        found = rows.filter("feedback.1").select("user_id", "ts.1", "imp_id").rows()
        assert found == [
            ("a", 1000, imp_id["a", 1]),
            ("a", 3000, imp_id["a", 1]),
            ("a", 4000, imp_id["a", 2]),
            ("a", 5000, imp_id["a", 5]),
        ]
        assert not rows.filter("feedback.1")["shown"].any()
        assert log.rejects().counts == {"feedback to no impression": 3}
        assert log.span() == (8, 1000, 6000)


def test_feedback_may_name_its_impression(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "user,item,ts,click,id", "a,x,1,1,p", "a,y,2,0,q")
    write(tmp_path, "likes.csv", "who,item,at,id", "a,x,3,p", "a,x,4,")
    mapping = MAPPING + 'impression_id = "id"' + CLICK + OWN + 'impression_id = "id"'
    log = open_mapping(tmp_path, mapping)
    assert rows_of(log)["imp_id"].to_list() == ["p", "q", "p"]
    assert log.rejects().counts == {"no impression id": 1}


def test_rows_of_one_file_may_be_impressions_or_feedback(tmp_path: Path) -> None:
    write(tmp_path, "log.csv", "user,item,ts,event", "a,x,1,view", "a,x,2,buy", "a,x,3,view", "a,x,4,look", "b,x,5,buy")
    more = "impression = \"event = 'view'\"\n[[feedback]]\naction = 'buy'\nwhen = \"event = 'buy'\"\n"
    log = open_mapping(tmp_path, MAPPING + more)
    rows = rows_of(log).select("imp_id", "shown", "feedback.0").rows()
    assert rows == [
        ("r0", True, False),
        ("r0", False, True),
        ("r2", True, False),
    ]
    assert log.rejects().counts == {"neither an impression nor feedback": 1, "feedback to no impression": 1}


NEGATIVES = '\n[[feedback]]\naction = "buy"\nwhen = "true"\n[negatives]\nper_positive = 3\nsampling = "{}"\n'


@pytest.mark.parametrize("sampling", ["popularity", "uniform"])
def test_negatives_are_items_that_came_before_and_that_the_user_has_not_had(tmp_path: Path, sampling: str) -> None:
    rows = [f"u{n % 20},i{(n * n) % 37},{n},1" for n in range(800)]
    write(tmp_path, "log.csv", "user,item,ts,click", *rows)
    text = MAPPING + NEGATIVES.format(sampling)
    log = open_mapping(tmp_path, text)
    made = rows_of(log)
    seen: set[str] = set()
    had: dict[str, set[str]] = {}
    first_places = []
    for _, group in made.group_by("ts", maintain_order=True):
        positive = group.filter("feedback.0").row(0, named=True)
        user, negatives = positive["user_id"], group.filter(~group["feedback.0"])["item_id"].to_list()
        had.setdefault(user, set()).add(positive["item_id"])
        assert set(negatives) <= seen - had[user]
        assert len(set(negatives)) == len(negatives) <= 3
        seen.add(positive["item_id"])
        if len(negatives) == 3:
            first_places.append(group["feedback.0"].to_list().index(True))
    # The place of the positive says nothing.
    assert all(0.15 < first_places.count(place) / len(first_places) < 0.35 for place in range(4))
    assert made["imp_id"].n_unique() == len(made) == log.span()[0]
    small = open_mapping(tmp_path, text, ReadSizes(block_bytes=50, run_rows=20, stretch_rows=1 << 20))
    assert rows_of(small).equals(made)
    assert not rows_of(open_mapping(tmp_path, text, seed=8)).equals(made)


def test_popular_items_are_drawn_more_often(tmp_path: Path) -> None:
    rows = [
        "u,rare,0,1",
        *(f"u{n},common,{n + 1},1" for n in range(200)),
        *(f"v{n},new{n},{n + 300},1" for n in range(200)),
    ]
    write(tmp_path, "log.csv", "user,item,ts,click", *rows)
    share = {}
    for sampling in ("popularity", "uniform"):
        made = rows_of(open_mapping(tmp_path, MAPPING + NEGATIVES.format(sampling))).filter(~pl.col("feedback.0"))
        share[sampling] = (made["item_id"] == "common").mean()
    assert share["popularity"] > 2 * share["uniform"]


def test_lists_become_rows_and_the_file_is_a_column(tmp_path: Path) -> None:
    write(tmp_path, "log_a.jsonl", '{"who": "u", "items": [5, 7]}', '{"who": "v", "items": []}', '{"who": "w"}')
    write(tmp_path, "log_b.jsonl", '{"who": "u", "items": [5]}')
    text = """
name = "lists"
[log]
files = ["log*"]
explode = { list = "items" }
user = "concat(file, ':', who)"
item = "element"
time = "100 + index"
[[feedback]]
action = "buy"
when = "true"
"""
    log = open_mapping(tmp_path, text)
    assert rows_of(log).select("user_id", "item_id", "ts").rows() == [
        ("log_a:u", "5", 100_000),
        ("log_b:u", "5", 100_000),
        ("log_a:u", "7", 101_000),
    ]
    assert log.rejects().counts == {"no item": 1}


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="cannot be read"):
        load_mapping(tmp_path / "none.toml")
