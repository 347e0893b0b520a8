"""An arm's settings -> those of its processes: names of its own, and timers that a test can wait for."""

from typing import Any

import msgspec

from simulators.abtest.arm import Arm
from simulators.abtest.run import TrialSettings
from state_store.embedded.child import free_port
from stream.settings import Settings

_PATIENT_S = 60.0
_FOR_EVER_S = 31_536_000.0


def settings_of_arm(arm: Arm, how: TrialSettings, urls: tuple[str, str], mark: str = "") -> Settings:
    """Settings of an arm's worker, learner and scorer.

    Args:
        arm: one of the two.
        how: of the test; where the world waits for the arms, every request is answered, however long that takes, and
            every version is published, however it compares with the last, as in one process.
        urls: of broker and Redis.
        mark: what names of topics and of the group begin with.
    """
    settings, name = arm.settings, f"{arm.settings.redis.prefix}-{how.seed}"
    group = f"{mark}{name}"
    topics = {
        topic: f"{group}-{topic.replace('_', '-')}" for topic in ("impressions", "feedback", "dead_letter", "weights")
    }
    serving: dict[str, Any] = {"enabled": True, "port": free_port(), "workers": 1, "log": False}
    serving["max_candidates"] = max(settings.serving.max_candidates, how.candidates)
    # A world's time is not the clock's: nothing goes on because nobody comes for a while.
    worker: dict[str, Any] = {"idle_after_ms": 0}
    publish: dict[str, Any] = {}
    learner: dict[str, Any] = {}
    if how.strict:
        serving |= {"refresh_s": 0.05, "timeout_s": _PATIENT_S, "state_timeout_s": _PATIENT_S, "max_weights_age_s": 0.0}
        worker["batch"] = 4096
        # Micro-batches end where they end in one process: behind so many samples, whenever these come.
        learner["wait_s"] = _FOR_EVER_S
        publish = {"interval_s": 0.2, "max_log_loss_rise": 1e6, "hold_on_drift_s": 0.0}
    kafka_url, redis_url = urls
    return msgspec.structs.replace(
        settings,
        redis=msgspec.structs.replace(settings.redis, url=redis_url, prefix=name),
        kafka=msgspec.structs.replace(settings.kafka, url=kafka_url, group=group, **topics),
        serving=msgspec.structs.replace(settings.serving, **serving),
        learner=msgspec.structs.replace(settings.learner, **learner),
        worker=msgspec.structs.replace(settings.worker, **worker),
        publish=msgspec.structs.replace(settings.publish, **publish),
    )
