"""Publishing: the learner's weights as versioned blobs, and with them the embedding norms back into the state.

Incremental by design: most versions carry the dense part and the rows touched since the last one (Monolith, section
2.3); every n-th is full, so that a scorer that starts has a short way.
"""

import math
from collections.abc import Mapping

from learner.learner import Learner
from learner.snapshot import encode_snapshot, take_changed
from state_store.errors import lost_ownership
from state_store.weights import BlobRef, Manifest, WeightStore
from stream.sections import PublishSettings
from stream.training.norms import NormWriter


class Publisher:
    """Publishes a learner's weights.

    Args:
        weights: where they go.
        norms: writes those of whoever was learned from.
        settings: the publish section.
        prefix: of the pipeline's keys, for errors.
    """

    def __init__(self, weights: WeightStore, norms: NormWriter, settings: PublishSettings, prefix: str) -> None:
        self._weights = weights
        self._norms = norms
        self._settings = settings
        self._prefix = prefix
        self._epoch = weights.open_epoch()
        self._last: Manifest | None = None
        self._cut_off = False
        """Whether the last attempt ended in an error, so that it is not known how far it came."""
        self._last_log_loss = math.inf
        latest = weights.latest()
        self.version = latest.version if latest is not None else 0
        self.held_back = ""
        """Why the last attempt did not publish; empty if it did."""

    def publish(
        self,
        learner: Learner,
        cursor: Mapping[int, int],
        metrics: Mapping[str, float],
        now_ms: int,
    ) -> Manifest | None:
        """Publish the next version, unless the gate is shut.

        Args:
            learner: whose weights.
            cursor: partition -> sequence number of the last sample learned.
            metrics: recent progressive validation.
            now_ms: wall clock.

        Raises:
            LostOwnershipError: another learner has taken over.

        An attempt that ends in another error may have come to its end in Redis all the same; the next one finds out,
        and publishes everything.
        """
        self.held_back = self._gate(learner, metrics)
        if self.held_back:
            return None
        if self._cut_off:
            self._find_own()
        self._cut_off = True
        version = self.version + 1
        # With its owner: one that was taken over must not write over what its successor has published.
        name = f"{self._epoch}-{version}"
        changed = take_changed(learner)
        last = self._last
        if last is None or version - last.base_version >= self._settings.full_every:
            base = self._weights.put(f"{name}-full", encode_snapshot(learner, None))
            base_version: int = version
            deltas: tuple[BlobRef, ...] = ()
        else:
            base, base_version = last.base, last.base_version
            deltas = (*last.deltas, self._weights.put(f"{name}-delta", encode_snapshot(learner, changed)))
        manifest = Manifest(
            version=version,
            epoch=self._epoch,
            created_ms=now_ms,
            base=base,
            base_version=base_version,
            deltas=deltas,
            learned={str(p): seq for p, seq in cursor.items()},
            num_samples=learner.num_samples,
            learned_ts=learner.learned_ts,
            metrics={k: v for k, v in metrics.items() if math.isfinite(v)},
        )
        if not self._weights.publish(manifest):
            raise lost_ownership(self._prefix)
        if last is not None and last.base != base:
            self._weights.retire((last.base, *last.deltas))
        self._last, self.version = manifest, version
        self._last_log_loss = metrics.get("log_loss", math.inf)
        self._norms.write(learner, version)
        self._cut_off = False
        return manifest

    def _find_own(self) -> None:
        """Go on behind the version that an attempt without an answer may have put in force."""
        # While Redis refuses, nothing is encoded in vain: a full snapshot may be large.
        self._weights.check_writable()
        latest = self._weights.latest()
        if latest is not None and latest.epoch == self._epoch:
            self.version = max(self.version, latest.version)
        self.start_over()

    def start_over(self) -> None:
        """Make the next version a full one: blobs of the last ones may be gone."""
        self._last = None

    def _gate(self, learner: Learner, metrics: Mapping[str, float]) -> str:
        if not learner.is_finite:
            return "a weight is not finite"
        loss = metrics.get("log_loss", math.nan)
        limit = self._last_log_loss + self._settings.max_log_loss_rise
        return f"recent log-loss {loss:.4f} exceeds {limit:.4f}" if loss > limit else ""
