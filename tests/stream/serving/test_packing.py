"""Candidates become the samples that an impression of each would, with the state as the store has it."""

import numpy as np
import pytest
import redis

from learner.samples.asked import samples_of
from learner.samples.columns import of_cores
from learner.samples.layout import Layout
from state_store.client import script
from state_store.config import RedisSettings
from state_store.entities.packed import PackedReads
from state_store.states import StateStore
from stream.events import MalformedEventError
from stream.features import FeatureExtractor

COMMON = {"age": 25, "genres": ["x"]}
OWN = [
    {"genres": ["a", "b"], "price": 3.5},
    {},
    {"genres": None, "age": "old"},
    {"price": -2, "genres": [], "undeclared": {"a": 1}},
    {"genres": "one"},
]


def test_columns_are_the_same_as_one_by_one(fields) -> None:
    layout, extractor = Layout(fields, ("like", "buy")), FeatureExtractor(fields)
    item_ids = [f"i{n}" for n in range(len(OWN))]
    ours = samples_of(layout, 123, "u1", item_ids, extractor.columns(COMMON, OWN))
    cores = [
        layout.pack_core("", "u1", item_id, (123, 0), extractor.extract({**COMMON, **own}))
        for item_id, own in zip(item_ids, OWN, strict=True)
    ]
    theirs = of_cores(cores, layout)
    theirs.rows_B["negative_rate"] = 1.0
    for name in layout.dtype.names or ():
        if name != "imp_key":
            np.testing.assert_array_equal(ours.rows_B[name], theirs.rows_B[name], name)
    np.testing.assert_array_equal(ours.keys_M, theirs.keys_M)


def test_without_candidates_there_are_no_samples(fields) -> None:
    layout = Layout(fields, ("like",))
    assert len(samples_of(layout, 1, "u", [], FeatureExtractor(fields).columns({}, []))) == 0


@pytest.mark.parametrize(("feature", "said"), [({"price": "dear"}, "features.price"), ({"age": [1]}, "features.age")])
def test_a_feature_of_the_wrong_kind_is_named(feature, said: str, fields) -> None:
    for common, own in ((feature, [{}]), ({}, [{}, feature])):
        with pytest.raises(MalformedEventError, match=said):
            FeatureExtractor(fields).columns(common, own)


def test_one_round_trip_reads_what_the_store_reads(
    client: redis.Redis, redis_settings: RedisSettings, store: StateStore
) -> None:
    keys, names = store.keys, ("impressions", "like")
    client.hset(
        keys.user(3, "u1"), mapping={"impressions": 9, "like": 2, "norm": 1.25, "norm_version": 7, "first_ts": 5}
    )
    client.hset(keys.item(3, "i1"), mapping={"impressions": 4, "other:impressions": 10, "other:like": 3, "norm": 0.5})
    client.hset(keys.item(3, "i2"), mapping={"norm": 2.5, "norm_version": 3})
    client.hset(keys.item(3, "i4"), mapping={"like": 1})
    items = ["i1", "i2", "unknown", "i4", "i1"]
    reads = PackedReads(keys, names)
    asked, args = reads.ask(3, "u1", items)
    state = reads.read(script(client, "read_state")(keys=asked, args=args))
    user, theirs = store.read_user(3, "u1"), store.read_items(3, items)
    assert tuple(state.user_counts_C) == user.counts == (9, 2)
    found = (state.user_norm, state.user_norm_version, state.user_first_ts, state.user_last_ts)
    assert found == (user.norm, user.norm_version, user.first_ts, user.last_ts)
    assert [tuple(row) for row in state.item_counts_BC] == [item.counts for item in theirs]
    assert state.item_norm_B.tolist() == [item.norm for item in theirs]
    assert state.item_norm_version_B.tolist() == [item.norm_version for item in theirs]
    nobody = reads.nothing(2)
    assert not nobody.user_counts_C.any()
    assert nobody.item_counts_BC.shape == (2, 2)
    asked, args = reads.ask(0, "nobody", [])
    assert reads.read(script(client, "read_state")(keys=asked, args=args)).item_counts_BC.shape == (0, 2)
