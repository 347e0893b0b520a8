"""Users stay where they are, groups have the size that is asked for, arms and canary share are drawn apart."""

import msgspec
import numpy as np
import pytest

from stream.arms.settings import ArmSettings
from stream.rollout.assignment import place_of
from stream.sections import ServingSettings
from stream.settings import SettingsError, load_settings

USERS = [f"u{n}" for n in range(20_000)]
ARMS = (ArmSettings(name="a", version=3, percent=10), ArmSettings(name="b", prefix="other", percent=25, mirror=True))
SETTINGS = ServingSettings(canary_share=0.2, arms=ARMS)


def test_groups_have_their_size_and_users_stay_in_them() -> None:
    places = [place_of(SETTINGS, user) for user in USERS]
    arms = np.array([place.arm.name if place.arm else "" for place in places])
    canary = np.array([place.canary for place in places])
    for name, share in (("a", 0.1), ("b", 0.25), ("", 0.65)):
        assert (arms == name).mean() == pytest.approx(share, abs=0.01)
    assert not canary[arms != ""].any()
    assert canary[arms == ""].mean() == pytest.approx(0.2, abs=0.01)
    assert [place_of(SETTINGS, user) for user in USERS] == places
    salted = [place_of(msgspec.structs.replace(SETTINGS, salt="x"), user) for user in USERS]
    assert np.mean([a == b for a, b in zip(places, salted, strict=True)]) < 0.7


def test_a_greater_last_arm_moves_nobody_between_others() -> None:
    grown = msgspec.structs.replace(SETTINGS, arms=(ARMS[0], msgspec.structs.replace(ARMS[1], percent=50)))
    for user in USERS[:5000]:
        before, after = place_of(SETTINGS, user), place_of(grown, user)
        assert after == before or (after.arm is grown.arms[1]), user
        if before.arm is not None:
            assert after.arm is not None
            assert after.arm.name == before.arm.name


REFUSED = [
    ('serving.arms=[{name="a", version=1, percent=60}, {name="b", version=2, percent=41}]', "more than 100"),
    ('serving.arms=[{name="a", version=1, percent=6}, {name="a", version=2, percent=4}]', "two arms have one name"),
    ('serving.arms=[{name="live", version=1, percent=6}]', "'live' is the name"),
    ('serving.arms=[{name="a", percent=6}]', "names no weights"),
    ('serving.arms=[{name="a", version=1, percent=0}]', "percent"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_arms_that_make_no_sense_are_refused_with_words(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(environment={}, overrides=[given])


@pytest.mark.parametrize("join", ["join.mode=immediate", "join.early_positives=true", "join.negative_rate=0.5"])
def test_a_canary_is_refused_where_labels_would_mislead_its_judge(join: str) -> None:
    with pytest.raises(SettingsError, match=r"serving.canary_share is 0.1, and labels would mislead"):
        load_settings(environment={}, overrides=["serving.canary_share=0.1", join])
    assert load_settings(environment={}, overrides=[join]).serving.canary_share == 0
