"""What the judge decides: the next stable version, or the way back."""

import msgspec
import numpy as np
from support.outcomes import outcomes

from state_store.rollout import Rollout
from state_store.weights import BlobRef, Manifest
from stream.rollout.decisions import reverted
from stream.rollout.judge import Judge
from stream.rollout.trial import Trial
from stream.rollout.watch import Watch
from stream.sections import ServingSettings

SETTINGS = ServingSettings(canary_share=0.1, canary_outcomes=300)


def kept(*versions: int) -> list[Manifest]:
    ref = BlobRef("", 0, "")
    return [Manifest(version=v, epoch=1, created_ms=0, base=ref, base_version=v) for v in versions]


def block(seed: int, version: int, worse: float = 0.0) -> "object":
    rng = np.random.default_rng(seed)
    old_N = rng.uniform(0.2, 0.8, 100)
    labels_N = rng.random(100) < old_N
    new_N = np.where(labels_N, old_N - worse, old_N + worse) + rng.normal(0, 0.02, 100)
    return outcomes(new_N, old_N, labels_N, version)


def begun() -> tuple[Judge, Rollout]:
    """A judge whose trial compares with version 10; the candidate is 15, and 17 is the newest."""
    judge = Judge(SETTINGS)
    rollout = judge.decide(Rollout(), kept(5, 10), 12, 1)
    judge.follow(rollout)
    assert (rollout.stable, rollout.candidate, judge.trial) == (10, 0, None)
    rollout = judge.decide(rollout, kept(10, 15), 17, 2)
    judge.follow(rollout)
    return judge, rollout


def test_a_lineage_that_does_no_harm_is_promoted_to_its_candidate() -> None:
    judge, rollout = begun()
    assert [d.what for d in rollout.decisions] == ["promote"]
    assert rollout.protected == {10, 15}
    for seed in range(2):
        judge.observe(block(seed, 18 + seed), 0)
        assert judge.decide(rollout, kept(10, 15, 20), 25, 3) is rollout
    judge.observe(block(2, 17), 0)
    assert judge.decide(rollout, kept(10, 15, 20), 25, 3) is rollout, "17 may have been compared with an older one"
    judge.observe(block(3, 21), 0)
    after = judge.decide(rollout, kept(10, 15, 20), 23, 4)
    assert (after.stable, after.candidate, after.pinned, after.hold) == (15, 20, 0, "")
    assert after.decisions[-1].why == "no harm in 300 outcomes of versions 18 to 21"
    judge.follow(after)
    assert judge.trial is not None
    assert (judge.trial.stable, judge.trial.candidate, judge.trial.since) == (15, 20, 23)
    assert judge.decide(after, kept(10, 15, 20), 25, 5) is after


def test_nothing_is_promoted_while_its_outcomes_speak_for_harm() -> None:
    judge, rollout = begun()
    for seed in range(2):
        judge.observe(block(seed, 18), 0)
    judge.observe(block(2, 19, worse=0.08), 0)
    assert judge.trial is not None
    assert judge.trial.num_outcomes >= SETTINGS.canary_outcomes
    assert judge.decide(rollout, kept(10, 15, 20), 25, 4) is rollout
    harmed = msgspec.msgpack.decode(msgspec.msgpack.encode(judge.trial), type=Trial)
    for seed in range(3, 9):
        judge.observe(block(seed, 20, worse=-0.03), 0)
    assert judge.decide(rollout, kept(10, 15, 20), 25, 5).stable == 15, "it has passed"
    judge = Judge(SETTINGS, harmed)
    judge.observe(block(3, 20, worse=0.08), 0)
    assert judge.decide(rollout, kept(10, 15, 20), 25, 5).pinned == 10


def test_harm_pins_the_stable_version_and_holds_publishing_until_a_person_decides() -> None:
    judge, rollout = begun()
    judge.observe(block(1, 18), 0)
    judge.observe(block(2, 19, worse=0.15), 0)
    after = judge.decide(rollout, kept(10, 15), 25, 4)
    assert (after.pinned, after.stable) == (10, 10)
    assert [d.what for d in after.decisions] == ["promote", "revert", "hold"]
    assert "versions 18 to 19: log-loss +" in after.hold
    judge.follow(after)
    assert judge.trial is None
    judge.observe(block(2, 19, worse=0.15), 0)
    assert judge.decide(after, kept(10, 15), 25, 5) is after
    released = msgspec.structs.replace(after, pinned=0, hold="")
    again = judge.decide(released, kept(10, 15), 19, 6)
    judge.follow(again)
    assert judge.trial is not None
    assert (judge.trial.stable, judge.trial.since, judge.trial.num_outcomes) == (10, 19, 0)


def test_what_a_person_has_pinned_stays_pinned() -> None:
    after = reverted(Rollout(pinned=7, stable=10), "harm", "scorer", 3)
    assert (after.pinned, after.hold, [d.what for d in after.decisions]) == (7, "scorer: harm", ["hold"])
    assert reverted(after, "again", "scorer", 4) is after


def test_a_candidate_that_is_gone_is_replaced_and_its_trial_begins_anew() -> None:
    judge, rollout = begun()
    judge.observe(block(1, 18), 0)
    after = judge.decide(rollout, kept(10, 20), 22, 4)
    assert (after.stable, after.candidate) == (10, 20)
    judge.follow(after)
    assert judge.trial is not None
    assert (judge.trial.candidate, judge.trial.num_outcomes) == (20, 0)


def test_a_trial_goes_on_where_a_checkpoint_left_it() -> None:
    judge, rollout = begun()
    judge.observe(block(1, 18), 0)
    stored = msgspec.msgpack.encode(msgspec.to_builtins(judge.trial))
    other = Judge(SETTINGS, msgspec.convert(msgspec.msgpack.decode(stored), Trial))
    for one in (judge, other):
        one.observe(block(2, 19, worse=0.15), 0)
    other.follow(rollout)
    assert other.trial == judge.trial
    assert other.decide(rollout, kept(10, 15), 25, 4) == judge.decide(rollout, kept(10, 15), 25, 4)


def test_a_learner_that_starts_before_a_trial_hears_its_evidence_again() -> None:
    judge, rollout = begun()
    for seed in range(3):
        judge.observe(block(seed, 18), 0)
    before = msgspec.msgpack.encode(judge.trial)
    after = judge.decide(rollout, kept(10, 15, 20), 23, 4)
    judge.follow(after)
    judge.observe(block(3, 24), 0)
    restored = Judge(SETTINGS, msgspec.msgpack.decode(before, type=Trial))
    assert restored.decide(after, kept(10, 15, 20), 31, 5) is after
    restored.follow(after)
    for seed, version in ((2, 18), (3, 24)):
        restored.observe(block(seed, version), 0)
    assert judge.trial is not None
    assert judge.trial.num_outcomes == 100
    assert restored.trial == judge.trial


def test_a_trial_of_before_a_release_is_not_taken_up_again() -> None:
    judge, rollout = begun()
    judge.observe(block(1, 18, worse=0.15), 0)
    before = msgspec.msgpack.encode(judge.trial)
    held = judge.decide(rollout, kept(10, 15), 19, 4)
    assert held.hold
    released = msgspec.structs.replace(held, pinned=0, hold="")
    restored = Judge(SETTINGS, msgspec.msgpack.decode(before, type=Trial))
    after = restored.decide(released, kept(10, 15), 22, 5)
    restored.follow(after)
    assert (after.hold, after.since) == ("", 22)
    assert restored.trial is not None
    assert restored.trial.num_outcomes == 0


def test_a_scorer_sees_scores_that_are_none_and_those_that_take_long() -> None:
    watch = Watch(SETTINGS)
    rng = np.random.default_rng(3)
    for _ in range(2000):
        watch.took(12, 0.001 * rng.uniform(0.9, 2.5), 10, 0.001)
    assert not watch.harm
    for _ in range(300):
        watch.took(12, 0.001 * rng.uniform(1.8, 4.0), 10, 0.001)
    assert "version 12 takes more than 2 times as long as version 10" in watch.harm
    watch.took(14, 0.001, 12, 0.001)
    assert not watch.harm
    watch.no_number(15)
    assert watch.harm == "version 15 gave a score that is no number"
