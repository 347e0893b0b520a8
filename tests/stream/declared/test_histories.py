"""Histories as they are declared: from a file to what Redis keeps, and what is refused."""

from pathlib import Path

import pytest

from state_store.entities.histories import KeptHistory
from stream.command.export import need_onnx
from stream.command.kept import NoOnnxError
from stream.process.store import kept_histories
from stream.settings import Settings, SettingsError, load_settings

DECLARED = """
[actions]
names = ["like", "share"]
[[histories]]
name = "liked"
actions = ["like"]
by = "decade"
[[histories]]
name = "any"
actions = ["like", "share"]
length = 5
"""


def loaded(folder: Path, *overrides: str, text: str = DECLARED) -> Settings:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, {}, overrides)


def test_what_is_declared_is_kept(tmp_path: Path) -> None:
    layout = loaded(tmp_path).recipe.layout
    kept = kept_histories(layout)
    assert kept.kept == (KeptHistory("history:liked:decade", 0b01, 50), KeptHistory("history:any", 0b11, 5))
    # Keys of the fields of one value, 8 bytes each: user, gender, age, occupation, item, year, decade.
    keys_at = layout.key_offset("user_id")
    assert kept.places[layout.tag] == (keys_at + 8 * 4, keys_at + 8 * 6, -1)
    assert kept.tag == layout.tag
    assert kept.places.keys() == {layout.tag, layout.bare_tag}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('name = "any"', 'name = "liked"'), r"histories: a name is declared twice: \['liked', 'liked'\]"),
        (('actions = ["like"]', 'actions = ["buy"]'), r"'liked' is of \['buy'\], which actions.names .* lacks"),
        (('by = "decade"', 'by = "genres"'), r"'liked' is by 'genres'; it may be .* categorical: year, decade"),
        (("length = 5", "length = 0"), r"histories\[1\]\.length: Expected `int` >= 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text=DECLARED.replace(*change))


def test_a_reader_needs_a_history_and_is_not_exported(tmp_path: Path) -> None:
    read = ("model.deep=dnn", "model.history=din")
    with pytest.raises(SettingsError, match=r"model\.history is 'din', and no \[\[histories\]\] are declared"):
        loaded(tmp_path, *read, text="")
    with pytest.raises(NoOnnxError, match=r"model\.history is 'din'"):
        need_onnx(loaded(tmp_path, *read).recipe)
