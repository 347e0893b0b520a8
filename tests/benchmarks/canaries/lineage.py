"""A learner with its published versions, and canaries on it: the product's parts, without broker, Redis and HTTP."""

from collections.abc import Mapping

import msgspec
import numpy as np

from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from state_store.rollout import Rollout
from state_store.weights import BlobRef, Manifest
from stream.rollout.assignment import drawn
from stream.rollout.judge import Judge
from stream.sections import ServingSettings
from stream.served import ServedOutcomes
from stream.settings import Settings

_KEPT = 5


class Lineage:
    """Versions of one learner.

    Args:
        settings: effective settings.
        publish_samples: samples between two versions.
    """

    def __init__(self, settings: Settings, publish_samples: int) -> None:
        self._settings, self._publish_samples = settings, publish_samples
        self.learner = Learner(settings.recipe)
        self.newest = ServingModel(settings.recipe)
        self.version = 0
        self.kept: dict[int, list[bytes]] = {}
        self._waiting = publish_samples

    def go_on_from(self, other: "Lineage") -> None:
        """Be where another one is."""
        arrays, meta = other.learner.state()
        self.learner.restore({name: value.copy() for name, value in arrays.items()}, meta)
        self.version, self.kept = other.version, dict(other.kept)
        take_changed(self.learner)
        self.newest.load(encode_snapshot(self.learner, None), alone=True)
        self._waiting = other._waiting

    def learn(self, samples: Samples, protected: frozenset[int]) -> bool:
        """Learn a block; returns whether a version was published.

        Args:
            samples: the block.
            protected: versions that stay kept.
        """
        self.learner.learn(samples)
        self._waiting += len(samples)
        if self._waiting < self._publish_samples:
            return False
        self._waiting = 0
        self.version += 1
        changed = take_changed(self.learner)
        self.newest.load(encode_snapshot(self.learner, None if self.version == 1 else changed))
        if self.version % self._settings.publish.full_every == 1:
            self.kept[self.version] = [*encode_snapshot(self.learner, None)]
            old = sorted(set(self.kept) - protected)[:-_KEPT]
            self.kept = {version: blob for version, blob in self.kept.items() if version not in old}
        return True

    def manifests(self) -> list[Manifest]:
        """Of the kept versions."""
        ref = BlobRef("", 0, "")
        return [Manifest(version=v, epoch=1, created_ms=0, base=ref, base_version=v) for v in self.kept]


class Canary:
    """The users of one salt: scored by newest and stable weights, and judged.

    Args:
        settings: effective settings.
        serving: with the salt.
        lineage: whose versions.
    """

    def __init__(self, settings: Settings, serving: ServingSettings, lineage: Lineage) -> None:
        self._serving, self._lineage = serving, lineage
        self._stable = ServingModel(settings.recipe)
        self._loaded = 0
        self._judge = Judge(serving)
        self._is_in: dict[str, bool] = {}
        self._served: dict[int, tuple[float, int, float]] = {}
        """Impression -> what newest weights, of which version, and stable ones said."""
        self.rollout = Rollout()
        self.num_trials = 0
        self.num_outcomes = 0
        self.served_by: dict[int, int] = {}
        """Impressions by the version that served them."""

    def serve(self, shown: Samples) -> None:
        """Score impressions as they pass."""
        chosen = self._chosen(shown.user_ids)
        if self.rollout.pinned or not self.rollout.stable or not chosen.any():
            return
        if self._loaded != self.rollout.stable:
            self._stable.load(self._lineage.kept[self.rollout.stable], alone=True)
            self._loaded = self.rollout.stable
        ours = shown.take(chosen)
        new_N = self._lineage.newest.predict(ours).predictions_B
        old_N = self._stable.predict(ours).predictions_B
        version = self._lineage.version
        said = zip(new_N.tolist(), [version] * len(new_N), old_N.tolist(), strict=True)
        self._served |= dict(zip(ours.rows_B["imp_key"].tolist(), said, strict=True))
        self.served_by[version] = self.served_by.get(version, 0) + len(ours)

    def hear(self, samples: Samples) -> None:
        """Labels become known."""
        outcomes = self._outcomes(samples)
        if outcomes is not None:
            self.num_outcomes += len(outcomes.label_N)
            self._judge.observe(outcomes, 0)

    def decide(self) -> bool:
        """Have the judge decide; returns whether it takes the newest weights back."""
        before = self.rollout.stable
        self.rollout = self._judge.decide(self.rollout, self._lineage.manifests(), self._lineage.version, 0)
        self._judge.follow(self.rollout)
        self.num_trials += self.rollout.stable != before
        return bool(self.rollout.pinned)

    def release(self) -> None:
        """As a person does who finds nothing wrong."""
        self.rollout = msgspec.structs.replace(self.rollout, pinned=0, hold="")

    def _chosen(self, users: list[str]) -> np.ndarray:
        for user in set(users) - self._is_in.keys():
            self._is_in[user] = drawn(self._serving.salt, "canary", user) < self._serving.canary_share
        return np.array([self._is_in[user] for user in users], np.bool_)

    def _outcomes(self, samples: Samples) -> ServedOutcomes | None:
        rows = samples.rows_B
        keys, kinds = rows["imp_key"].tolist(), rows["kind"].tolist()
        at, said, labels, signs = [], [], [], []
        for n, (key, kind) in enumerate(zip(keys, kinds, strict=True)):
            served = self._served.get(key)
            if served is None or kind not in LABELS:
                continue
            for label, sign in LABELS[kind]:
                at.append(n)
                said.append(served)
                labels.append(label)
                signs.append(sign)
        if not at:
            return None
        new, versions, old = zip(*said, strict=True)
        nothing_N = np.zeros(len(at), np.int64)
        return ServedOutcomes(
            users_N=samples.user_keys[at],
            user_impressions_N=rows["user_counts"][at, 0].astype(np.int32),
            item_impressions_N=rows["item_counts"][at, 0].astype(np.int32),
            first_ts_N=nothing_N,
            probability_N=np.array(new),
            version_N=np.array(versions, np.int64),
            other_N=np.array(old),
            arm_N=nothing_N.astype(np.uint64),
            canary_N=np.ones(len(at), np.bool_),
            label_N=np.array(labels, np.bool_),
            sign_N=np.array(signs, np.int8),
            late_N=nothing_N.astype(np.bool_),
            rate_N=np.ones(len(at)),
            progressive_N=np.array(new),
            ts_N=rows["ts"][at],
        )


LABELS: Mapping[int, list[tuple[bool, int]]] = {
    int(SampleKind.NEGATIVE): [(False, 1)],
    int(SampleKind.POSITIVE): [(True, 1)],
    int(SampleKind.CORRECTION): [(False, -1), (True, 1)],
}
"""Kind of a sample -> the labels that become known by it, and those that are taken back."""


def flipped(samples: Samples, chosen_B: np.ndarray) -> Samples:
    """Samples of which some have the other label."""
    rows_B = samples.rows_B.copy()
    base_B = chosen_B & (rows_B["kind"] <= int(SampleKind.POSITIVE))
    rows_B["label"][base_B] = 1 - rows_B["label"][base_B]
    rows_B["kind"][base_B] = rows_B["label"][base_B]
    return Samples(samples.layout, rows_B, samples.keys_M, samples.texts)
