import json
from pathlib import Path

import pytest

from stream.settings import SettingsError, load_settings


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[learner]\nmicro_batch = 16\nmax_micro_batch = 128\nseed = 1\n")
    settings = load_settings(file, {"COLDSTREAM_LEARNER__SEED": "2", "HOME": "/"}, ["learner.seed=3"])
    assert (settings.learner.micro_batch, settings.learner.seed) == (16, 3)


def test_a_logs_settings_come_before_every_other_source(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[learner]\nmicro_batch = 16\n")
    of_log = {"learner": {"micro_batch": 8, "seed": 4}, "actions": {"names": ["click"], "positive": ["click"]}}
    settings = load_settings(file, {}, ["monitor.twin_share=0"], of_log)
    assert (settings.learner.micro_batch, settings.learner.seed) == (16, 4)
    assert settings.actions.names == ("click",)
    assert of_log["learner"] == {"micro_batch": 8, "seed": 4}, "the log's own stay as they are"


def test_fields_are_a_list_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    fields = [
        {"name": "user_id", "group": "user", "kind": "id", "state": True},
        {"name": "item_id", "group": "item", "kind": "id"},
        {"name": "hour", "group": "context", "kind": "numeric"},
    ]
    file.write_text(json.dumps({"fields": fields}))
    assert [f.name for f in load_settings(file, {}).fields] == ["user_id", "item_id", "hour"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.micro_bach=64", ["learner.micro_bach", "micro_batch"]),
        ("lerner.micro_batch=64", ["lerner", "learner"]),
        ("learner.micro_batch=0", ["learner.micro_batch", ">= 1", "0"]),
        ("learner.micro_batch=many", ["learner.micro_batch", "int", "many"]),
        ("model.interaction=gpt", ["model.interaction", "gpt"]),
        ("model.mask_low=0.9", ["mask_low", "0.9", "mask_high"]),
        ("join.window_ms=1", ["lateness_ms <= window_ms", "1"]),
        ('actions.positive=["buy"]', ["buy", "like"]),
        ("join.negative_rate=0", ["join.negative_rate", "0"]),
        ("learner", ["SECTION.NAME=VALUE"]),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(override: str, said: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, overrides=[override])
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_loss_that_needs_all_negatives_is_refused_where_some_are_dropped() -> None:
    with pytest.raises(SettingsError, match=r"negative_rate is 0.5.*'fnw'"):
        load_settings(environment={}, overrides=["join.negative_rate=0.5", "learner.delayed_feedback=fnw"])


def test_a_misspelt_environment_name_fails() -> None:
    with pytest.raises(SettingsError, match=r"learner\.sead"):
        load_settings(environment={"COLDSTREAM_LEARNER__SEAD": "1"})


def test_passwords_are_masked() -> None:
    settings = load_settings(environment={}, overrides=["redis.url=redis://u:secret@db/0"])
    assert "secret" not in str(settings.masked())
