"""Codes of samples: made where impressions are decoded, kept by the one call, carried as of the impression."""

import msgspec
import numpy as np
import pytest
import redis
from safetensors.numpy import save
from support.fed import T0, Fed

from learner.config import FieldSettings, HistorySettings, ModelSettings, SifSettings
from learner.samples.columns import Samples, concatenate, of_cores
from learner.samples.former import read_entry
from learner.sif.frozen import FrozenTokenizer, made_for
from learner.sif.tokenizer import SampleTokenizer
from state_store.client import script_text
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.entities.codebooks import CodebookStore
from state_store.entities.packed import PackedReads
from stream.events import Feedback, Heartbeat, Impression
from stream.ingest.codes import Coding
from stream.ingest.rows import Decoded
from stream.settings import Settings

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("words", "item", "multi"),
)
SIF = SifSettings(buckets=64, code_bits=4, freeze_samples=20)
PAST = HistorySettings("past", ("like",), by="*")
BARE = "0", "u", "i", (T0, 0), (None,)
JOIN = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1)


def frozen(version: int) -> dict[str, np.ndarray]:
    """What a tokenizer freezes that has learned nothing yet."""
    tokenizer = SampleTokenizer([[0], [1, 2], [3, 4]], 5, SIF, 4)
    tokenizer.codebooks.books_TMVD.normal_(std=0.05)
    for _ in range(version):
        tokenizer._freeze()
    return tokenizer.frozen() | {"made_for": np.array([made_for(FIELDS, SIF)], np.uint64)}


def settings_with(settings: Settings, prefix: RedisSettings) -> Settings:
    model = ModelSettings(deep="sif", history="sif", dim=4, sif=SIF)
    return msgspec.structs.replace(
        settings,
        fields=FIELDS,
        crosses=(),
        histories=(PAST,),
        model=model,
        redis=prefix,
        actions=ActionSettings(("like",)),
    )


def fed_with(client: redis.Redis, settings: Settings) -> tuple[Fed, Coding]:
    fed = Fed(client, settings.redis, JOIN, FIELDS, ("like",), histories=(PAST,))
    coding = Coding(settings, client)
    fed.code(coding.coded)
    return fed, coding


def shown(n: int, ts: int) -> Impression:
    features = {"words": [f"w{n % 3}", f"w{n % 2}"][: n % 3]}
    return Impression(imp_id=f"{n}", user_id="u", item_id=f"i{n % 4}", ts=T0 + ts, features=features)


def liked(n: int, ts: int) -> Feedback:
    return Feedback(imp_id=f"{n}", user_id="u", item_id=f"i{n % 4}", action="like", ts=T0 + ts)


def base_of(fed: Fed) -> Samples:
    samples = concatenate([read_entry(entry.payload, fed.layout) for entry in fed.entries()])
    return samples.take(samples.is_labelled)


def words_of(event: Impression, tokenizer: FrozenTokenizer, fed: Fed) -> int:
    given = ([str(word) for word in event.features["words"]],)  # type: ignore[attr-defined]
    core = fed.layout.pack_core(event.imp_id, event.user_id, event.item_id, (event.ts, 0), given)
    return int(tokenizer.words(of_cores([core], fed.layout))[0])


def test_an_entry_has_the_codes_of_its_sample_by_the_version_that_it_says(
    settings: Settings, client: redis.Redis, redis_settings: RedisSettings
) -> None:
    declared = settings_with(settings, redis_settings)
    fed, coding = fed_with(client, declared)
    store, expected = CodebookStore(client, redis_settings.prefix), []
    tokenizers: dict[int, FrozenTokenizer] = {}
    for n in range(12):
        if n in (4, 8):
            arrays = frozen(n // 4)
            store.write(save(arrays))
            tokenizers[n // 4] = FrozenTokenizer(arrays, FIELDS, SIF)
        coding.look()
        event = shown(n, 50 * n)
        fed.feed(event, liked(n, 50 * n + 10))
        known = tokenizers.get(n // 4)
        expected.append((event.ts + 10, 0 if known is None else words_of(event, known, fed)))
    fed.feed(shown(99, 5000), Heartbeat(ts=T0 + 10**6))
    last = base_of(fed).take(np.array([imp == "99" for imp in base_of(fed).imp_ids]))
    _, entries = last.own_entries()
    assert entries[["ts", "category"]].tolist() == expected
    assert [word & 15 for _, word in expected] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({word for _, word in expected}) > 4
    fed.expected()


def test_what_is_read_again_is_kept_once_and_a_scorer_reads_the_same(
    settings: Settings, client: redis.Redis, redis_settings: RedisSettings
) -> None:
    """By other codebooks, too: what was applied keeps the codes that it had."""
    declared = settings_with(settings, redis_settings)
    fed, coding = fed_with(client, declared)
    store = CodebookStore(client, redis_settings.prefix)
    store.write(save(frozen(1)))
    coding.look()
    fed.batch(0, [shown(n, 50 * n) for n in range(5)])
    store.write(save(frozen(2)))
    coding.look()
    fed.again(0)
    fed.batch(1, [liked(n, 50 * n + 10) for n in range(5)])
    fed.again(1)
    fed.feed(Heartbeat(ts=T0 + 10**6))
    reads = PackedReads(fed.store.keys, ("impressions", "like"), fed.store.histories)
    keys, args = reads.ask(0, "u", [])
    state = reads.read(client.eval(script_text("read_state"), len(keys), *keys, *args))
    [text] = state.histories_before(T0 + 10**5, (50,))
    entries = np.frombuffer(text, np.dtype("<f8,<u8,<u8"))
    assert [ts - T0 for ts in entries["f0"]] == [50 * n + 10 for n in range(5)]
    assert {int(word) & 15 for word in entries["f2"]} == {1}
    fed.expected()


def test_codebooks_of_other_settings_encode_nothing_and_nobody_encodes_without_such_histories(
    settings: Settings, client: redis.Redis, redis_settings: RedisSettings, caplog: pytest.LogCaptureFixture
) -> None:
    declared = settings_with(settings, redis_settings)
    fed, coding = fed_with(client, declared)
    store, given = CodebookStore(client, redis_settings.prefix), Decoded([], [fed.layout.pack_core(*BARE)], [], 0)
    assert coding.coded(given) is given
    store.write(save(frozen(1)))
    coding.look()
    assert coding.coded(given) != given
    store.write(save({**frozen(1), "made_for": np.array([5], np.uint64)}))
    for _ in range(3):
        coding.look()
    assert coding.coded(given) is given
    assert [record.message for record in caplog.records if "samples get no codes" in record.message] == [
        "codebooks version 1 are of other [[fields]] or model.sif: until the learner has published others, samples get "
        "no codes"
    ]
    plain = Coding(msgspec.structs.replace(declared, model=ModelSettings(), histories=()), client)
    plain.look()
    assert plain.coded(given) is given


def test_impressions_that_were_held_before_codes_were_declared_have_none(
    settings: Settings, client: redis.Redis, redis_settings: RedisSettings
) -> None:
    before = Fed(client, redis_settings, JOIN, FIELDS, ("like",))
    before.feed(shown(0, 0))
    after, _ = fed_with(client, settings_with(settings, redis_settings))
    after.log = before.log
    after.feed(liked(0, 10), shown(1, 20), Heartbeat(ts=T0 + 10**6))
    _, entries = base_of(after).own_entries()
    assert entries[["ts", "category"]].tolist() == [(T0 + 10, 0)]
    after.expected()
