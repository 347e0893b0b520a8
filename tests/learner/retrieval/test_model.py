"""The two-tower model: what towers see, what is learned, and how it is judged on a split."""

import msgspec
import numpy as np
import pytest
import torch

from learner.metrics import auc, uauc
from learner.retrieval.config import VARIANTS, TwoTowerSettings, Variant, variant_of
from learner.retrieval.entities import Entities, entities_of
from learner.retrieval.interactions import Pairs
from learner.retrieval.model import TwoTower
from learner.retrieval.offline import evaluate, fit, judge
from learner.retrieval.tower import Tower
from tests.learner.retrieval.tastes import ITEM_FIELDS, ITEMS, USERS, entities, split

SMALL = TwoTowerSettings(dim=8, hidden=(16,), out=8, batch=128, adapter_hidden=8, dense_lr=0.01, embedding_lr=0.1)


def some_pairs(num: int, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, (2, num, 2))
    return Pairs(rng.integers(0, USERS, num), rng.integers(0, ITEMS, num), rng.integers(0, 2, num), *counts)


def nothing(num: int) -> np.ndarray:
    return np.zeros((num, 2), np.int64)


def test_entities_have_the_values_that_they_were_given() -> None:
    _, items = entities()
    bag = items.bag(np.array([7, 3, 11]))
    # Items 7, 3 and 11: ids of their own, a shared kind of tag, lengths 1, 0 and 2.
    assert bag.offsets_BF.tolist() == [0, 1, 3, 4, 5, 7, 8, 9, 11]
    assert bag.weights_N.tolist() == [1, 0.5, 0.5, 1] * 3
    values = bag.values_N.reshape(3, 4)
    assert len(set(values[:, 0].tolist())) == 3
    assert set(values[:, 1].tolist()) == set(values[:1, 1].tolist())
    assert len(set(values[:, 3].tolist())) == 3
    assert items.num_values == ITEMS + 5 + 3
    assert items.numbers(["i4", "i0"]).tolist() == [4, 0]


def test_entities_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="must be their id"):
        entities_of(ITEM_FIELDS[1:], [])
    with pytest.raises(ValueError, match="ids must differ; of 2 there are 1"):
        entities_of(ITEM_FIELDS[:1], [["a"], ["a"]])
    with pytest.raises(ValueError, match="has 1 values, there are 3 fields"):
        entities_of(ITEM_FIELDS, [["a"]])
    with pytest.raises(ValueError, match="cannot have 2 offsets"):
        Entities(ITEM_FIELDS, ["a"], np.zeros(3), np.array([0, 3]))


def test_a_tower_is_weights_then_layers_then_norm_one() -> None:
    """In NumPy, from the embeddings on."""
    torch.manual_seed(1)
    tower = Tower(msgspec.structs.replace(SMALL, num_masks=0), 3).double().eval()
    emb_BFD, counts_B2 = torch.randn(5, 3, 8).double(), torch.randint(0, 9, (5, 2)).double()
    weight_BF = tower.weights(emb_BFD, counts_B2)
    assert weight_BF is not None
    x = (emb_BFD * weight_BF.unsqueeze(-1)).flatten(1).detach().numpy()
    first, last = tower.layers[0], tower.layers[2]
    hidden = np.maximum(x @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    out = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    expected = out / np.linalg.norm(out, axis=1, keepdims=True)
    np.testing.assert_allclose(tower(emb_BFD, counts_B2).detach().numpy(), expected, atol=1e-12)
    # The state of its own side, and nothing else, changes what counts.
    assert not torch.allclose(tower(emb_BFD, counts_B2 + 50), tower(emb_BFD, counts_B2))


def test_item_vectors_depend_on_no_user() -> None:
    """Whoever asks, and however the users' side learns: so they can be computed beforehand."""
    model = TwoTower(*entities(), SMALL)
    before = model.item_vectors(nothing(ITEMS))
    model.user_vectors(np.arange(USERS), np.full((USERS, 2), 9))
    for parameter in model.user_tower.parameters():
        parameter.data.add_(1)
    np.testing.assert_array_equal(model.item_vectors(nothing(ITEMS)), before)
    assert np.linalg.norm(before, axis=1) == pytest.approx(np.ones(ITEMS), abs=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_that_a_variant_has_learns(variant: Variant, loss: str) -> None:
    settings = msgspec.structs.replace(variant_of(SMALL, variant), loss=loss, num_uniform=20)
    model = TwoTower(*entities(), settings)
    assert (model.item_tower.adapter is not None, model.item_tower.mask is not None, model.ssl is not None) == (
        variant in ("adapter", "full"),
        variant in ("masks", "full"),
        variant == "ssl",
    )
    parts = {"user": model.user_tower, "item": model.item_tower, **({"ssl": model.ssl} if model.ssl else {})}
    before = {f"{p}.{name}": v.clone() for p, part in parts.items() for name, v in part.named_parameters()}
    states = model.state()
    # The adapter's last layer sees no gradient of the layers before it at first: two steps.
    losses = [model.learn(some_pairs(64, seed), nothing(ITEMS)) for seed in (0, 1)]
    assert np.isfinite(losses).all()
    after = {f"{p}.{name}": v for p, part in parts.items() for name, v in part.named_parameters()}
    assert [name for name, v in before.items() if torch.equal(after[name], v)] == []
    for name in ("users_VD", "items_VD"):
        assert not torch.equal(model.state()[name], states[name])


def test_only_rows_of_a_batch_move() -> None:
    model = TwoTower(*entities(), variant_of(SMALL, "base"))
    before = model.state()["users_VD"]
    model.learn(Pairs(np.array([3, 8]), np.array([1, 2]), np.ones(2, int), nothing(2), nothing(2)), nothing(ITEMS))
    moved = (model.state()["users_VD"] != before).any(dim=1).numpy()
    bag = entities()[0].bag(np.array([3, 8]))
    assert np.flatnonzero(moved).tolist() == sorted(set(bag.values_N.tolist()))


def test_there_is_nothing_to_learn_from_too_few() -> None:
    model = TwoTower(*entities(), SMALL)
    before = model.state()["items_VD"]
    negatives = some_pairs(20)._replace(labels_B=np.zeros(20, int))
    assert np.isnan(model.learn(negatives, nothing(ITEMS)))
    assert torch.equal(model.state()["items_VD"], before)


def test_the_same_seed_gives_the_same_model() -> None:
    data = split()
    settings = msgspec.structs.replace(variant_of(SMALL, "full"), num_uniform=8)
    vectors = []
    for seed in (7, 7, 8):
        model, history = fit(data, msgspec.structs.replace(settings, seed=seed), num_epochs=2, num=5)
        vectors.append(model.item_vectors(data.counts()[1]))
        assert len(history) == 2
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.allclose(vectors[0], vectors[2])


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_it_finds_what_users_like(loss: str) -> None:
    data = split()
    settings = msgspec.structs.replace(SMALL, loss=loss)
    untrained = evaluate(TwoTower(data.users, data.items, settings), data, num=10)
    told = []
    model, history = fit(data, settings, num_epochs=8, patience=8, num=10, report=lambda *said: told.append(said))
    figures = evaluate(model, data, num=10)
    assert figures.recall > 1.3 * untrained.recall
    assert figures.uauc > untrained.uauc + 0.1
    assert [epoch for epoch, _, _ in told] == list(range(1, 9))
    # What is kept is the best epoch.
    again = judge(model, data, part=data.valid, num=10, known=data.train)
    assert again.recall_G.mean() == max(each.recall for each in history)


def test_figures_are_those_of_a_plain_computation() -> None:
    data = split()
    model, _ = fit(data, SMALL, num_epochs=1, num=5)
    figures = evaluate(model, data, num=5)
    users_E2, items_E2 = data.counts()
    scores = model.user_vectors(np.arange(USERS), users_E2) @ model.item_vectors(items_E2).T
    log = data.interactions
    known, test = {*data.train.tolist(), *data.valid.tolist()}, data.test.tolist()
    recalls, gains, popular = [], [], []
    for user in range(USERS):
        seen = {int(log.items_N[n]) for n in known if log.users_N[n] == user}
        liked = {int(log.items_N[n]) for n in test if log.users_N[n] == user and log.labels_N[n]}
        if liked:
            best = sorted((-scores[user, i], i) for i in range(ITEMS) if i not in seen)[:5]
            most = sorted((-items_E2[i, 1], i) for i in range(ITEMS) if i not in seen)[:5]
            popular.append(len(liked & {i for _, i in most}) / len(liked))
            at = [r for r, (_, i) in enumerate(best) if i in liked]
            recalls.append(len(at) / len(liked))
            gains.append(
                sum(1 / np.log2(r + 2) for r in at) / sum(1 / np.log2(r + 2) for r in range(min(5, len(liked))))
            )
    said = scores[log.users_N[test], log.items_N[test]]
    labels = log.labels_N[test]
    assert figures.num_users == len(recalls)
    assert figures.popular_recall == pytest.approx(np.mean(popular))
    assert (figures.recall, figures.ndcg) == pytest.approx((np.mean(recalls), np.mean(gains)))
    assert (figures.auc, figures.uauc) == pytest.approx((auc(labels, said), uauc(labels, said, log.users_N[test])))


def test_counts_are_those_of_the_training_part() -> None:
    data = split()
    users_E2, _ = data.counts()
    assert users_E2[:, 0].sum() == len(data.train)
    others = data._replace(valid=data.test, test=data.valid)
    np.testing.assert_array_equal(users_E2, others.counts()[0])


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(ValueError, match="num_epochs must be >= 1, got 0"):
        fit(split(), SMALL, num_epochs=0)
    with pytest.raises(ValueError, match="criterion must be recall, ndcg, auc or uauc, got 'loss'"):
        fit(split(), SMALL, criterion="loss")
