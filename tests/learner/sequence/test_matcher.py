"""Ids of a new domain's items from those of another's that their texts are like."""

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.content.config import ContentStartSettings
from learner.sequence.matcher import Matcher, generated
from learner.sequence.texts import EncodedTexts, HashedTexts

SETTINGS = ContentStartSettings(method="learned", buckets=256, width=16, batch=32, steps=5)


def test_ids_are_means_of_the_nearest_weighted_by_their_cosines() -> None:
    ids = np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]], np.float32)
    similar = np.array([[0.5, 0.25, 0.1], [-0.2, 0.4, -0.1], [-0.5, -0.1, -0.2]])
    np.testing.assert_allclose(generated(similar, ids, 1), [ids[0], ids[1], ids.mean(axis=0)])
    np.testing.assert_allclose(generated(similar, ids, 2), [[2 / 3, 2 / 3], ids[1], ids.mean(axis=0)], rtol=1e-6)
    all_three = (0.5 * ids[0] + 0.25 * ids[1] + 0.1 * ids[2]) / 0.85
    np.testing.assert_allclose(generated(similar, ids, 7)[0], all_three, rtol=1e-6)


def test_the_same_words_in_another_order_are_the_same_text() -> None:
    one, other, third = HashedTexts(256).vectors([["red", "pen"], ["pen", "red"], ["blue", "pen", "pen"]])
    np.testing.assert_array_equal(one, other)
    assert np.abs(third).sum() > np.abs(one).sum() > 0


def worded(rng: np.random.Generator, num: int) -> tuple[list[list[str]], np.ndarray]:
    """Items of one of four kinds; a kind's three words never come together, and a fourth word says nothing."""
    kinds = rng.integers(4, size=num)
    words = [[f"{kind}-{rng.integers(3)}", f"noise-{rng.integers(30)}"] for kind in kinds]
    return words, kinds


def test_behaviour_bends_texts_to_what_behaves_alike() -> None:
    rng = np.random.default_rng(5)
    (words, kinds), (new_words, new_kinds) = worded(rng, 300), worded(rng, 60)
    ids = np.eye(4, 8, dtype=np.float32)[kinds] + 0.1 * rng.standard_normal((300, 8)).astype(np.float32)
    hashed = HashedTexts(256)
    texts, new_texts = hashed.vectors(words), hashed.vectors(new_words)
    right = {}
    for behaviour in (0.0, 1.0):
        matcher = Matcher(msgspec.structs.replace(SETTINGS, behaviour=behaviour), hashed, 7)
        matcher.learn(texts, ids, 60)
        similar = matcher.compared(new_texts) @ matcher.compared(texts).T
        made = generated(similar, ids, 10)
        right[behaviour] = float((made[:, :4].argmax(axis=1) == new_kinds).mean())
        other_words = new_kinds[:, None] == kinds[None, :]
        other_words &= (new_texts != 0).astype(np.float32) @ (texts != 0).T.astype(np.float32) == 0
        right[behaviour, "unlike"] = float(similar[other_words].mean())
    assert right[1.0] >= right[0.0] > 0.7
    assert right[1.0, "unlike"] > right[0.0, "unlike"] + 0.1


def test_an_encoder_reads_each_text_once_and_every_dimension_counts() -> None:
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return np.array([[len(text), text.count("e"), 1] for text in texts], np.float32)

    texts = EncodedTexts("of letters", encode, 3)
    first = texts.vectors([["red", "pen"], ["blue"], ["red", "pen"]])
    second = texts.vectors([["blue"], ["tree"]])
    assert asked == ["red pen", "blue", "tree"]
    assert first.tolist() == [[7, 2, 1], [4, 1, 1], [7, 2, 1]]
    assert second.tolist() == [[4, 1, 1], [4, 2, 1]]
    assert texts.weights(first).tolist() == [1, 1, 1]
    assert texts.vectors([]).shape == (0, 3)
    matcher = Matcher(SETTINGS, texts, 7)
    assert matcher.learn(np.tile(first, (10, 1)), np.eye(30, 4, dtype=np.float32), 2) > 0
    assert matcher.compared(second).shape == (2, SETTINGS.width)
