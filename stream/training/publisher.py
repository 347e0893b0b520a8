"""Publishing: the learner's weights as versions in chunks, and with them the embedding norms back into the state.

Incremental by design: each version is the dense part and the rows touched since the last one (Monolith, section 2.3).
Every n-th is there in full, too, so that a scorer that starts has a short way; chunks of it that have not changed are
those of the full one before. So many of the full ones are kept.
"""

import logging
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from learner.published.changed import AnyLearner, Changed
from learner.published.codes import frozen_codes
from learner.published.encoding import encode_snapshot, take_changed
from learner.published.messages import cut
from state_store.errors import lost_ownership
from state_store.rollout import DamagedRolloutError, Rollout
from state_store.weights import (
    BlobRef,
    ChunksGoneError,
    Manifest,
    StoreUnavailableError,
    Way,
    WeightStore,
)
from stream.sections import PublishSettings
from stream.training.norms import NormWriter

log = logging.getLogger("coldstream.learner")


class Gate:
    """Decides whether weights are let through.

    Args:
        settings: the publish section.
    """

    def __init__(self, settings: PublishSettings) -> None:
        self._settings = settings
        self._last_log_loss = math.inf
        self._drift: tuple[int, str] | None = None

    def shut_by(
        self, learner: AnyLearner, metrics: Mapping[str, float], rollout: Rollout | DamagedRolloutError, now_ms: int
    ) -> str:
        """Why weights are held back; empty if they are let through."""
        if not learner.is_finite:
            return "a weight is not finite"
        if isinstance(rollout, DamagedRolloutError):
            return str(rollout)
        if rollout.hold:
            return f"publishing is held: {rollout.hold}"
        if self._drift is not None and now_ms - self._drift[0] < self._settings.hold_on_drift_s * 1000:
            return f"drift ({self._drift[1]}); publishing goes on {self._settings.hold_on_drift_s:g} s behind the alarm"
        loss = metrics.get("log_loss", math.nan)
        limit = self._last_log_loss + self._settings.max_log_loss_rise
        return f"recent log-loss {loss:.4f} exceeds {limit:.4f}" if loss > limit else ""

    def let_through(self, metrics: Mapping[str, float]) -> None:
        """Weights with these figures were published."""
        self._last_log_loss = metrics.get("log_loss", math.inf)

    def hear(self, alarm: str, now_ms: int) -> None:
        """A drift alarm was raised; what counts are those of all samples."""
        if alarm.startswith("all "):
            self._drift = now_ms, alarm


class Publisher:
    """Publishes a learner's weights.

    Args:
        weights: where they go.
        norms: writes those of whoever was learned from.
        settings: the publish section.
        folder: id of the run folder, whose checkpoints are named with what is kept.
        named: versions that stay kept, as arms are at them.
    """

    def __init__(
        self,
        weights: WeightStore,
        norms: NormWriter,
        settings: PublishSettings,
        folder: str = "",
        named: Collection[int] = (),
    ) -> None:
        self._weights = weights
        self._norms = norms
        self._settings = settings
        self._folder = folder
        self._named = frozenset(named)
        self._epoch = weights.open_epoch()
        self._sweeper = weights.sweeper(self._epoch, settings.retired_s)
        self._last: Manifest | None = None
        """What the next version is an increment to; None: to nothing."""
        self._in_force = weights.latest()
        """Whose chunks the next full version shares, unless they have been found not to be there."""
        self._shares = True
        self._kept = weights.kept()
        self._cut_off = False
        """Whether the last attempt ended in an error, so that it is not known how far it came."""
        self.gate = Gate(settings)
        self.version = self._in_force.version if self._in_force is not None else 0
        self.held_back = ""
        """Why the last attempt did not publish; empty if it did."""

    @property
    def kept_checkpoints(self) -> frozenset[int]:
        """Numbers of the checkpoints of this run folder that kept versions go back to."""
        return frozenset(m.checkpoint for m in self._kept if m.folder == self._folder and m.checkpoint)

    def publish(
        self,
        learner: AnyLearner,
        cursor: Mapping[int, int],
        metrics: Mapping[str, float],
        now_ms: int,
        checkpoint: int = 0,
    ) -> Manifest | None:
        """Publish the next version, unless the gate is shut.

        Args:
            learner: whose weights.
            cursor: partition -> sequence number of the last sample learned.
            metrics: recent progressive validation.
            now_ms: wall clock.
            checkpoint: number of the learner's last durable one; 0: there is none.

        Raises:
            LostOwnershipError: another learner has taken over.

        An attempt that ends in another error may have come to its end in Redis all the same; the next one finds out,
        and publishes everything.
        """
        rollout = self._rollout()
        before, self.held_back = self.held_back, self.gate.shut_by(learner, metrics, rollout, now_ms)
        if self.held_back or isinstance(rollout, DamagedRolloutError):
            if self.held_back != before:
                log.warning("weights held back: %s", self.held_back)
            return None
        if self._cut_off:
            self._find_own()
        self._cut_off = True
        manifest = Manifest(
            version=self.version + 1,
            epoch=self._epoch,
            created_ms=now_ms,
            **self._blobs(learner, self.version + 1),
            learned={str(p): seq for p, seq in cursor.items()},
            num_samples=learner.num_samples,
            learned_ts=learner.learned_ts,
            metrics={k: v for k, v in metrics.items() if math.isfinite(v)},
            checkpoint=checkpoint,
            folder=self._folder if checkpoint else "",
        )
        if not self._put_in_force(manifest):
            return None
        self._retire(manifest, rollout, now_ms)
        self._last = self._in_force = manifest
        self._shares = True
        self.version = manifest.version
        self.gate.let_through(metrics)
        self._norms.write(learner, manifest.version)
        # Behind the weights: whoever reads codes has the codebooks before anybody encodes by them.
        codes = frozen_codes(learner)
        if codes is not None:
            self._weights.codebooks.write(codes[1])
        self._cut_off = False
        return manifest

    def _rollout(self) -> Rollout | DamagedRolloutError:
        try:
            return self._weights.rollouts.read()
        except DamagedRolloutError as exc:
            return exc

    def _put_in_force(self, manifest: Manifest) -> bool:
        """Whether it is in force; if not, the next attempt writes everything."""
        try:
            done = self._weights.publish(manifest)
        except ChunksGoneError as exc:
            self.held_back = str(exc)
            log.warning("weights held back: %s", exc)
            self._last, self._shares = None, False
            return False
        if not done:
            raise lost_ownership(self._weights.prefix)
        return True

    def _blobs(self, learner: AnyLearner, version: int) -> dict[str, Any]:
        """Store what a version consists of: what has changed since the last one, and every n-th time everything."""
        # With its owner: one that was taken over must not write over what its successor has published.
        name, last = f"{self._epoch}-{version}", self._last
        changed = take_changed(learner)
        if last is None:
            return {"base": self._base(name, learner), "base_version": version}
        deltas = (*last.deltas, self._weights.put(name, self._chunks(learner, changed)))
        if version - last.base_version < self._settings.full_every:
            return {"base": last.base, "base_version": last.base_version, "deltas": deltas, "since": last.since}
        return {"base": self._base(name, learner), "base_version": version, "since": Way(last.base, deltas)}

    def _base(self, name: str, learner: AnyLearner) -> BlobRef:
        like = self._in_force.base if self._in_force is not None and self._shares else None
        return self._weights.put_base(f"{name}-full", self._chunks(learner, None), like)

    def _chunks(self, learner: AnyLearner, changed: Changed | None) -> Iterator[memoryview]:
        return cut(encode_snapshot(learner, changed, self._settings.values))

    def _retire(self, manifest: Manifest, rollout: Rollout, now_ms: int) -> None:
        """Keep a full version, and let go of the chunks that neither it nor a kept one names, of whatever owner."""
        if manifest.deltas:
            return
        settings = self._settings
        self._kept = self._weights.keep(
            manifest,
            most=settings.keep_versions,
            every_ms=round(settings.keep_every_s * 1000),
            protected=rollout.protected | self._named,
        )
        try:
            self._weights.sweep(self._sweeper, manifest, self._kept, now_ms)
        except StoreUnavailableError as exc:
            # The version is in force; what is there in vain goes with the next one.
            log.warning("chunks of older weights stay: %s", exc)

    def _find_own(self) -> None:
        """Go on behind the version that an attempt without an answer may have put in force."""
        # While Redis refuses, nothing is encoded in vain: a full snapshot may be large.
        self._weights.check_writable()
        latest = self._weights.latest()
        if latest is not None and latest.epoch == self._epoch:
            self.version = max(self.version, latest.version)
        self.start_over()

    def start_over(self) -> None:
        """Make the next version a full one: chunks of the last ones may be gone."""
        self._last, self._in_force = None, self._weights.latest()
        self._kept = self._weights.kept()

    def forget_checkpoints(self, behind: int) -> None:
        """The run folder's checkpoints behind a number are gone."""
        self._kept = self._weights.forget_checkpoints(behind, self._folder, self._epoch)
