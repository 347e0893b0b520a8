"""What is done about weights that did harm, or did none."""

from state_store.rollout import Decision, Rewind, Rollout


def reverted(rollout: Rollout, why: str, by: str, now_ms: int) -> Rollout:
    """All are served the stable weights, and no others are published, until a person decides.

    Args:
        rollout: what is decided so far; what somebody has pinned stays pinned.
        why: the harm.
        by: who found it.
        now_ms: wall clock.
    """
    said = f"{by}: {why}"
    if not rollout.pinned and rollout.stable:
        rollout = rollout.decide(Decision(now_ms, "revert", rollout.stable, why, by), pinned=rollout.stable, since=0)
    if not rollout.hold:
        rollout = rollout.decide(Decision(now_ms, "hold", rollout.pinned, why, by), hold=said, since=0)
    return rollout


def promoted(rollout: Rollout, version: int, why: str, by: str, now_ms: int) -> Rollout:
    """All users may have a version."""
    return rollout.decide(Decision(now_ms, "promote", version, why, by), stable=version)


def rolled_back(rollout: Rollout, decision: Decision, rewind: Rewind | None = None) -> Rollout:
    """A version is served until somebody unpins it, and none behind it counts as stable any more.

    Args:
        rollout: what is decided so far.
        decision: names the version.
        rewind: takes the learner back, too; None: what it was asked for, if anything, stays.
    """
    version = decision.version
    return rollout.decide(
        decision,
        pinned=version,
        stable=min(rollout.stable, version),
        candidate=rollout.candidate if rollout.candidate <= version else 0,
        since=0,
        rewind=rewind or rollout.rewind,
    )
