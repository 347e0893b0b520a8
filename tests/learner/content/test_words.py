"""Vectors of words in content: what is read, what becomes of it, and that learner and scorer agree."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings
from learner.content.vectors import hashed
from learner.content.words import NO_WORDS, words_of, write_words
from learner.learner import Learner
from learner.named import ArraysError
from learner.recipe import Recipe
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from stream.settings import SettingsError, load_settings
from tests.learner import checkpoints
from tests.learner.content.test_starts import learn, make_recipe, stream
from tests.learner.fast.records import changed, to_samples
from tests.learner.fast.streams import assert_equal

WIDTH, BUCKETS = 4, 1 << 14
FIELDS = (
    FieldSettings("user_id", "user", "id"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("title", "item", "multi"),
    FieldSettings("maker", "item", "categorical"),
    FieldSettings("weight", "item", "numeric"),
)
RNG = np.random.default_rng(1)
VECTORS = {word: RNG.standard_normal(WIDTH + 2).astype(np.float16) for word in ("red", "pen", "blue", "Acme")}


def written(path: Path, vectors: dict[str, np.ndarray]) -> Path:
    write_words(path, list(vectors), np.stack(list(vectors.values())), "by hand")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "words", VECTORS)


def settings_of(path: Path, width: int = WIDTH) -> ContentStartSettings:
    return ContentStartSettings(method="nearest", buckets=BUCKETS, words=str(path), words_width=width)


def test_content_has_the_mean_of_its_words_vectors_at_length_one(path: Path) -> None:
    words = words_of(settings_of(path), FIELDS, "item")
    texts = [("title", "red"), ("title", "pen"), ("title", "unknown"), ("maker", "Acme")]
    keys_N = np.array([value_key(*text) for text in [("user_id", "red"), *texts, ("title", "unknown")]], np.uint64)
    kinds_N, weights_N = np.array([0, 2, 2, 2, 3, 2], np.uint8), np.array([1, 1 / 3, 1 / 3, 1 / 3, 1, 1], np.float32)
    is_content_F = np.array([0, 0, 1, 1, 1], np.uint8)
    values = np.array([0, 5, 6]), keys_N, kinds_N, weights_N, np.array([0, 1]), is_content_F, BUCKETS
    content_2H, print_2 = hashed(*values, words.keys_N, words.vectors_NW)
    plain_2H, plain_print_2 = hashed(*values, NO_WORDS.keys_N, NO_WORDS.vectors_NW)
    sum_W = (VECTORS["red"][:WIDTH].astype(float) + VECTORS["pen"][:WIDTH]) / 3 + VECTORS["Acme"][:WIDTH]
    np.testing.assert_allclose(content_2H[0, BUCKETS:], sum_W / np.linalg.norm(sum_W), rtol=1e-3)
    # Of words that nobody knows nothing is said.
    assert not content_2H[1, BUCKETS:].any()
    np.testing.assert_array_equal(content_2H[:, :BUCKETS], plain_2H)
    np.testing.assert_array_equal(print_2, plain_print_2)


def test_vectors_are_of_the_kinds_fields_and_of_the_first_dimensions(path: Path) -> None:
    items, users = (words_of(settings_of(path), FIELDS, kind) for kind in ("item", "user"))
    assert len(items.keys_N) == 2 * len(VECTORS)
    assert not len(users.keys_N)
    assert items.vectors_NW.shape == (2 * len(VECTORS), WIDTH)
    at = items.keys_N.tolist().index(value_key("maker", "pen"))
    np.testing.assert_array_equal(items.vectors_NW[at], VECTORS["pen"][:WIDTH].astype(np.float32))
    assert words_of(settings_of(path), FIELDS, "item") is items
    assert words_of(settings_of(path, WIDTH + 2), FIELDS, "item").print != items.print


def test_what_is_no_file_of_words_is_named(tmp_path: Path, path: Path) -> None:
    def said(path: Path, width: int = WIDTH) -> str:
        with pytest.raises(ValueError, match=r"content_start\.words '/") as caught:
            words_of(settings_of(path, width), FIELDS, "item")
        return str(caught.value)

    assert "coldstream words" in said(tmp_path / "nothing")
    (tmp_path / "text").write_text("red 1 2", "utf-8")
    assert "no file of words" in said(tmp_path / "text")
    save_file({"other": np.zeros(3)}, tmp_path / "other")
    assert "no file of words" in said(tmp_path / "other")
    assert "6 dimensions, and words_width is 7" in said(path, 7)
    # Whoever starts with such a setting is told at once.
    with pytest.raises(SettingsError, match=r"content_start\.words '/.*`coldstream words "):
        load_settings(environment={}, overrides=["content_start.method=nearest", f"content_start.words={tmp_path}/no"])


def alike(path: Path, sign: int = 1) -> Path:
    """Genres g0 and g6 mean the same, and so on; none has a word in common with another."""
    angles = {f"g{n}": np.pi * min(n, 6 - n) / 4 for n in range(7)}
    return written(path, {word: np.array([np.cos(angle), sign * np.sin(angle)]) for word, angle in angles.items()})


def with_words(path: Path, method: str = "nearest") -> Recipe:
    return make_recipe(method, words=str(path), words_width=2, words_share=3.0, least=0.0)


def test_an_item_is_made_of_those_whose_words_mean_the_same(tmp_path: Path) -> None:
    learner, plain = Learner(with_words(alike(tmp_path / "words"))), Learner(make_recipe("nearest", least=0.0))
    near: dict[str, float] = {}
    for name, one in (("words", learner), ("plain", plain)):
        learn(one, [record for record in stream(500) if "g6" not in str(record.core.features)])
        scorer = ServingModel(one.recipe)
        scorer.load(encode_snapshot(one, None))
        new = changed(stream(1)[1], kind=SampleKind.SHOWN, item_id="new", features=["1", ["g6"], 300.0])
        names, _ = scorer.stands_for(to_samples([new], one.fields)) or ([], [])
        near[name] = np.mean([int(other[1:]) % 7 == 0 for other in names]) if names else 0.0
    assert near["words"] == 1.0
    assert near["plain"] < 1.0


@pytest.mark.parametrize("method", ["nearest", "learned"])
def test_learner_scorer_and_checkpoint_have_the_same_words(method: str, tmp_path: Path) -> None:
    recipe = with_words(alike(tmp_path / "words"), method)
    whole, first, second = (Learner(recipe) for _ in range(3))
    records = stream(600)
    expected = learn(whole, records)
    learn(first, records[:390])
    checkpoints.write(first, tmp_path / "kept")
    checkpoints.restore(second, tmp_path / "kept")
    take_changed(second)
    scorer = ServingModel(recipe)
    scorer.load(encode_snapshot(second, None))
    said = learn(second, records[390:])
    np.testing.assert_array_equal(said.predictions_B, expected.predictions_B[390:])
    assert_equal(second.state()[0], whole.state()[0])
    scorer.load(encode_snapshot(second, take_changed(second)))
    asked = to_samples(
        [changed(records[-1], kind=SampleKind.SHOWN, item_id=name) for name in ("new", "i1")], recipe.fields
    )
    np.testing.assert_array_equal(scorer.predict(asked).predictions_B, second.learn(asked).predictions_B)


def test_who_has_other_words_says_so(tmp_path: Path) -> None:
    recipe = with_words(alike(tmp_path / "words"))
    learner = Learner(recipe)
    learn(learner, stream(400))
    checkpoints.write(learner, tmp_path / "kept")
    others = with_words(alike(tmp_path / "others", sign=-1))
    without = make_recipe("nearest", least=0.0)
    for other in (others, without):
        with pytest.raises(ValueError, match=r"\[content_start\], or its file of words, have changed"):
            checkpoints.restore(Learner(other), tmp_path / "kept")
    with pytest.raises(ArraysError, match=r"content_start\.words: the learner's file of words is not"):
        ServingModel(others).load(encode_snapshot(learner, None))
    # Where the file lies is all the same.
    moved = msgspec.structs.replace(
        recipe.content_start, words=str((tmp_path / "words").rename(tmp_path / "elsewhere"))
    )
    checkpoints.restore(Learner(msgspec.structs.replace(recipe, content_start=moved)), tmp_path / "kept")
