"""Codes of samples through the whole pipeline without a broker: learned, frozen, published, kept, and read again."""

from pathlib import Path

import msgspec
import numpy as np
import redis
from support.logs import synthetic_log

from learner.config import HistorySettings, ModelSettings, SifSettings
from learner.learned import Learned
from learner.named import arrays_in
from learner.published.codes import frozen_codes
from learner.samples.columns import Samples, concatenate
from learner.sif.frozen import FrozenTokenizer
from simulators.oracle import expect
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from simulators.runs.summary import differences
from state_store.entities.codebooks import CodebookStore
from stream.settings import Settings

SIF = SifSettings(fields_per_token=4, levels=1, buckets=1024, freeze_samples=200, num_blocks=1)


def test_histories_carry_codes_of_the_versions_that_were_published(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    model = ModelSettings(
        deep="sif", history="sif", dim=8, hidden=(8,), adapter=False, num_masks=0, sif=SIF, history_items=5
    )
    history = HistorySettings("past", ("like",), by="*")
    declared = msgspec.structs.replace(settings, model=model, histories=(history,))
    run = Backtest(declared, BacktestSettings(round_events=100, publish_samples=150), tmp_path, NOW_MS)
    learner, blocks = run.trainer.learner, []
    learn, tokenizers = learner.learn, {}

    def recorded(samples: Samples) -> Learned:
        blocks.append(samples)
        learned = learn(samples)
        given = frozen_codes(learner)
        if given is not None and given[0] not in tokenizers:
            tokenizers[given[0]] = FrozenTokenizer(arrays_in(given[1]), declared.fields, SIF)
        return learned

    learner.learn = recorded  # type: ignore[method-assign]
    how = ReplaySettings(num_rows=1200, seed=3)
    run.run(Replay(synthetic_log(1200, 3), how, declared.kafka.partitions, declared.join).whole_log())
    expected = expect(run.records, declared.join, declared.actions, declared.tasks, declared.histories)
    assert differences(run.store, declared.kafka.partitions, expected) == {}

    samples = concatenate(blocks)
    words = samples.entries_H["category"]
    tags = (words & np.uint64(15)).astype(int)
    assert tags[0] == 0
    assert len(set(tags.tolist())) > 2
    blob = CodebookStore(client, declared.redis.prefix).read()
    assert blob is not None
    assert int(arrays_in(blob)["version"][0]) == max(tokenizers)
    # What an impression said is what its entry has: what the version that it names says of it.
    said = samples.rows_B["codes"]
    for version in set(tags.tolist()) - {0}:
        of_version = samples.take((said & np.uint64(15)).astype(int) == version)
        np.testing.assert_array_equal(of_version.rows_B["codes"], tokenizers[version].words(of_version))
    assert set(words.tolist()) <= set(said.tolist())
