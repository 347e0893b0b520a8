"""Arms behind Kafka and HTTP: the decisions of one process."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from support.worlds import SMALL

from simulators.abtest.arm import load_arm
from simulators.abtest.live.side import LiveSide
from simulators.abtest.live.start import Live
from simulators.abtest.local import in_process
from simulators.abtest.run import Trial, TrialSettings
from simulators.abtest.seeds import Opens
from simulators.abtest.tally import Period
from simulators.world.world import Visits, World
from state_store.config import RedisSettings
from state_store.weights import WeightStore

pytestmark = pytest.mark.slow

HOW = TrialSettings(days=1, days_before=1, candidates=20, slice_s=7200)


class Watched(Trial):
    """Keeps what was shown."""

    shown: list[np.ndarray]

    def lists(self, visits: Visits, slots_VC: np.ndarray, arms_V: np.ndarray) -> np.ndarray:
        lists_VL = super().lists(visits, slots_VC, arms_V)
        self.shown = [*getattr(self, "shown", []), lists_VL]
        return lists_VL


FROZEN = "[arm]\nfrozen = true\n"
# What the time since the user's last impression says depends on whose clock is asked.
BY_GAP = '[fast]\ngate_signals = ["user_count", "user_gap"]\n'
# Micro-batches of which a round's samples are no multiple, and looks at items' content in the midst of them.
DEEP = """
[model]
deep = "dcnv2"
num_masks = 1
[learner]
micro_batch = 48
block = 100
"""
CONTENT = '[content_start]\nmethod = "nearest"\nevery = 130\n'
ALONE = DEEP.replace("[model]", "[model]\nfast = false")
ARMS = {"fast": (FROZEN, BY_GAP), "deep": (FROZEN + ALONE, BY_GAP + CONTENT + DEEP)}


def run(opens: Opens, how: TrialSettings, texts: tuple[str, str], tmp_path: Path) -> tuple[Watched, list[Any]]:
    arms = []
    for name, text in zip("ab", texts, strict=True):
        file = tmp_path / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        arms.append(load_arm(name, file, SMALL))
    world = World(SMALL, how.seed)
    with opens(world, arms, how) as opened:
        trial = Watched(world, arms, how, opened)
        trial.run()
        return trial, list(opened.sides)


@pytest.mark.parametrize("kind", ARMS)
def test_the_same_is_shown_as_in_one_process(
    kind: str, broker: str, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    # On servers that other runs use, too, prefixes are told apart by the seed.
    how = msgspec.structs.replace(HOW, seed=1000 + int(redis_settings.prefix[1:]))
    fast, _ = run(partial(in_process, by_visit=True), how, ARMS[kind], tmp_path)
    live, sides = run(Live(broker, redis_settings.url, tmp_path / "live"), how, ARMS[kind], tmp_path)
    assert len(fast.shown) == 6
    for of_fast, of_live in zip(fast.shown, live.shown, strict=True):
        assert np.array_equal(of_fast, of_live)
    assert np.array_equal(fast.tally.of(Period.TEST), live.tally.of(Period.TEST))
    assert all(isinstance(side, LiveSide) and side.version and not side.num_degraded for side in sides)
    with redis.Redis.from_url(redis_settings.url) as client:
        newest = [WeightStore(client, f"{name}-{how.seed}").latest() for name in "ab"]
    assert newest[0] is not None
    assert newest[1] is not None
    # The learners end with a last publish, of which the frozen one is held back.
    assert newest[0].learned_ts < newest[1].learned_ts
