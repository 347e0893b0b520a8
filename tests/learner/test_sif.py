"""A learner that reads codes of samples: it learns from them, goes on bit for bit, and is served as it predicts."""

from typing import Any

import numpy as np
import pytest

from learner.config import FieldSettings, HeadSettings, HistorySettings, LearnerSettings, ModelSettings, SifSettings
from learner.fast.config import FastSettings
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.named import arrays_in
from learner.published.codes import code_usage, frozen_codes
from learner.recipe import Recipe, TaskRecipe
from learner.samples.asked import asked_rows
from learner.samples.columns import Samples, blocks
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import HISTORY_ENTRY, one_behind_the_other
from learner.sif.frozen import FrozenTokenizer
from learner.snapshot import ServingModel, encode_snapshot, take_changed

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("genre", "item", "categorical"),
)
SIF = SifSettings(buckets=512, freeze_samples=1000, num_blocks=1, code_bits=5, restart_batches=20)
FORMS: list[dict[str, Any]] = [{}, {"deep": "dnn"}, {"num_masks": 2, "adapter": True}, {"fast": True}]
forms = pytest.mark.parametrize("model", FORMS, ids=str)
NUM_ITEMS, NUM_GENRES = 12, 2


def recipe_of(model: dict[str, Any], **given: Any) -> Recipe:
    settings = {"deep": "sif", "history": "sif", "dim": 8, "hidden": (16,), "history_items": 5, "sif": SIF}
    settings |= {"adapter": False, "num_masks": 0, "fast": False, **model}
    return Recipe(
        FIELDS,
        model=ModelSettings(**settings),
        fast=FastSettings(factors=4, max_rows=9_000, max_cross_rows=10),
        learner=LearnerSettings(micro_batch=32, dense_lr=1e-2, embedding_init=0.5, **given.pop("learner", {})),
        histories=(HistorySettings("past", ("like",), by="*"),),
        **given,
    )


class World:
    """Users come once, and like genre 1, or anything if what they liked before is of genre 1: codes alone tell that."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.rng, self.num = recipe, np.random.default_rng(0), 0

    def _plain(self, items: list[int]) -> Samples:
        rows_B, texts = asked_rows(self.recipe.layout, len(items)), []
        for b, item in enumerate(items):
            self.num += 1
            names = f"u{self.num}", f"i{item}", f"g{item % NUM_GENRES}"
            rows_B["keys"][b] = [value_key(field.name, name) for field, name in zip(FIELDS, names, strict=True)]
            rows_B["ts"][b], rows_B["imp_key"][b] = 10**12 + 1000 * self.num, self.num
            texts += [f"{self.num}", *names[:2], None, None]
        return Samples(self.recipe.layout, rows_B, np.zeros(0, np.uint64), texts)

    def samples(self, count: int, learner: Learner) -> Samples:
        """Samples whose histories were encoded by what the learner has frozen last."""
        given, entries = frozen_codes(learner), []
        tokenizer = None if given is None else FrozenTokenizer(arrays_in(given[1]), FIELDS, SIF)
        samples = self._plain(self.rng.integers(0, NUM_ITEMS, count).tolist())
        tastes = self.rng.integers(0, NUM_GENRES, count)
        sizes = self.rng.integers(1, 7, count)
        items = [
            int(item) * NUM_GENRES + int(taste)
            for taste, size in zip(tastes, sizes, strict=True)
            for item in self.rng.integers(0, NUM_ITEMS // NUM_GENRES, size)
        ]
        past = self._plain(items)
        words = np.zeros(len(past), np.uint64) if tokenizer is None else tokenizer.words(past)
        ts_N = np.repeat(samples.rows_B["ts"], sizes) - 5000
        entries = list(zip(ts_N.tolist(), past.item_keys.tolist(), words.tolist(), strict=True))
        is_one = samples.rows_B["keys"][:, 2] == value_key("genre", "g1")
        samples.rows_B["label"] = samples.rows_B["kind"] = is_one | (tastes == 1)
        samples.rows_B["history_sizes"] = sizes[:, None]
        samples.rows_B["history_starts"] = one_behind_the_other(samples.rows_B["history_sizes"])
        return Samples(samples.layout, samples.rows_B, samples.keys_M, samples.texts, np.array(entries, HISTORY_ENTRY))


def learn(learner: Learner, samples: Samples, size: int = 64) -> Learned:
    return joined([learner.learn(part) for part in blocks(samples, size)])


@forms
def test_it_learns_what_only_codes_tell_goes_on_and_is_served_as_it_says(model: dict[str, Any]) -> None:
    recipe = recipe_of(model)
    world, learner = World(recipe), Learner(recipe)
    for _ in range(19):
        learned = learn(learner, samples := world.samples(200, learner))
    assert np.mean((learned.predictions_B > 0.5) == samples.rows_B["label"]) > 0.9
    given = frozen_codes(learner)
    assert given is not None
    assert given[0] == 3
    restored, scorer = Learner(recipe), ServingModel(recipe)
    restored.restore(*learner.state())
    take_changed(learner)
    scorer.load(encode_snapshot(learner, None))
    more = world.samples(400, learner)
    np.testing.assert_array_equal(learn(restored, more).predictions_B, learn(learner, more).predictions_B)
    assert frozen_codes(restored) == frozen_codes(learner) != given
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    shown = world.samples(100, learner)
    shown.rows_B["kind"] = SampleKind.SHOWN
    served, said = scorer.predict(shown), learn(learner, shown, 100)
    # The adapter is told norms: the learner's own, and those that a sample says, which are 0 here.
    np.testing.assert_allclose(served.predictions_B, said.predictions_B, atol=1e-3 if "adapter" in model else 1e-5)
    assert served.predictions_B.std() > 0.1


def test_how_codes_are_used_is_told() -> None:
    recipe = recipe_of({})
    world, learner = World(recipe), Learner(recipe)
    learn(learner, world.samples(250, learner))
    before = code_usage(learner)
    assert before is not None
    assert (before.version, before.codes, before.moved) == (0, 32, None)
    for _ in range(12):
        learn(learner, world.samples(200, learner))
    used = code_usage(learner)
    assert used is not None
    assert learner.deep is not None
    tokenizer = learner.deep.dense.tokenizer
    share_NV = tokenizer.codebooks.counts_TMV.flatten(0, 1).double().numpy()
    share_NV /= share_NV.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        perplexity_N = np.exp(-np.where(share_NV > 0, share_NV * np.log(share_NV), 0).sum(axis=1))
    assert used.perplexity == pytest.approx(perplexity_N.mean(), rel=1e-4)
    assert used.perplexity_min == pytest.approx(perplexity_N.min(), rel=1e-4)
    assert 1 < used.perplexity_min <= used.perplexity <= 32
    assert used.dead == pytest.approx((share_NV < 0.01 / 32).mean(), abs=1e-6)
    newest, last = tokenizer.frozen_2TMVD.numpy()
    moved = np.linalg.norm(newest - last, axis=-1).mean() / np.linalg.norm(last, axis=-1).mean()
    assert used.version == 2
    assert used.moved == pytest.approx(moved, rel=1e-4)
    assert moved > 0
    assert code_usage(Learner(Recipe(FIELDS))) is None


def test_without_codes_it_scores_all_the_same() -> None:
    recipe = recipe_of({})
    world, learner = World(recipe), Learner(recipe)
    learned = learn(learner, world.samples(250, learner))
    assert frozen_codes(learner) is None
    assert np.isfinite(learned.predictions_B).all()
    assert learned.predictions_B.std() > 0


def test_with_heads_of_several_tasks_the_main_one_teaches_the_codes() -> None:
    tasks = TaskRecipe("a", (0,), is_main=True), TaskRecipe("b", (0,))
    heads = HeadSettings(kind="shared_bottom")
    recipe = recipe_of({"heads": heads, "fast": True}, tasks=tasks, learner={"tasks": "all"})
    world, learner = World(recipe), Learner(recipe)
    for _ in range(5):
        learn(learner, world.samples(200, learner))
    given = frozen_codes(learner)
    assert given is not None
    assert given[0] == 1


def test_what_does_not_fit_is_refused() -> None:
    coded, plain = HistorySettings("past", ("like",), by="*"), HistorySettings("liked", ("like",))
    sif = ModelSettings(deep="sif", history="sif")
    with pytest.raises(ValueError, match=r"histories \['liked'\] keep none; give them by = '\*'"):
        Recipe(FIELDS, model=sif, histories=(coded, plain))
    with pytest.raises(ValueError, match=r"histories \['past'\] are by '\*'.* nothing makes any"):
        Recipe(FIELDS, model=ModelSettings(deep="dnn", history="din"), histories=(coded,))
    with pytest.raises(ValueError, match=r"model\.deep is 'sif', .* and model\.history is 'din'"):
        Recipe(FIELDS, model=ModelSettings(deep="sif", history="din"), histories=(plain,))
    views = ModelSettings(deep="sif", history="sif", sif=SifSettings(tokens="fields"))
    by_year = HistorySettings("of years", ("like",), by="year")
    Recipe(FIELDS, model=views, histories=(by_year, HistorySettings("of items", ("like",), by="item_id")))
    with pytest.raises(ValueError, match=r"'fields': histories \['of years', 'shared'\] must have the same actions"):
        Recipe(FIELDS, model=views, histories=(by_year, HistorySettings("shared", ("share",), by="year")))
    with pytest.raises(ValueError, match=r"'fields', and histories \['liked'\] have no field in `by`"):
        Recipe(FIELDS, model=views, histories=(by_year, plain))
