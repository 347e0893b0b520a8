"""The frozen twin: weights of a chosen age score what the live model scored; the gap is the value of learning online.

It has the live model's features and state, as they stood at the impression, and differs in its weights alone. The form
is that of Monolith's evaluation (arXiv 2209.07663, section 3): the same stream, weights synchronised at another pace.
It runs in the monitor's process, on a share of the users that the learner hands on, and never on the hot path.
"""

import logging
from pathlib import Path

import msgspec
import numpy as np
import redis

from learner.learned import learned_of
from learner.samples.columns import blocks
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel
from state_store.keys import Keys
from state_store.weights import Manifest, StoreUnavailableError, WeightsError, WeightStore
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import TWIN, open_history
from stream.monitor.history.recorder import Recorder
from stream.monitor.twin.feed import Scored, TwinFeedReader
from stream.predictions.columns import log_columns
from stream.process.failpoints import failpoint
from stream.settings import Settings

log = logging.getLogger("coldstream.monitor")

_HOUR_MS = 3_600_000
_STEPS = 4
"""Weights are pinned every fourth of the age, so that the twin's are between one and 1.25 times as old as asked."""
_BATCH = 1024
_ANY_NUMBER = 1 << 62
"""The twin follows checkpoints that are durable: it has nothing to forget."""


class Pins(msgspec.Struct, frozen=True):
    """Weights kept until they are old enough, oldest first; they survive the monitor."""

    run: str = ""
    manifests: tuple[Manifest, ...] = ()


class Twin:
    """Pins weights as they come, and scores with those that have the age.

    Args:
        settings: effective settings.
        client: Redis.
        folder: the learner's run folder, if it is within reach.
    """

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path | None) -> None:
        self._settings = settings
        self._layout = settings.recipe.layout
        self._client = client
        self._folder = folder
        self._weights = WeightStore(client, settings.redis.prefix)
        self._key = Keys(settings.redis.prefix).monitor_pins
        self._age_ms = round(settings.monitor.twin_age_h * _HOUR_MS)
        found = client.get(self._key)
        self.pins = msgspec.json.decode(found, type=Pins) if found is not None else Pins()
        self._model: ServingModel | None = None
        self._version = 0
        self.state = ""
        """What it waits for or lacks, in words; empty if nothing."""
        self._run = ""
        self._open("", 0)

    def _open(self, run: str, now_ms: int) -> None:
        settings = self._settings
        self._run = run
        self._scored = 0
        self._meter = Meter(settings.monitor, len(settings.fields), 0, watch=False, one_in=1)
        if not run:
            return
        self._feed = TwinFeedReader(self._client, settings.redis.prefix, run)
        self._recorder = Recorder(
            self._meter,
            self._folder,
            keep=settings.publish.keep_prediction_files,
            history=lambda _: open_history(settings, self._client, run, _ANY_NUMBER, now_ms, TWIN),
            series=TWIN,
        )

    def poll(self, run: str, now_ms: int) -> int:
        """Pin the weights in force if it is time, then score what waits; blocks.

        Args:
            run: the newest learner run.
            now_ms: wall clock.

        Returns:
            samples scored.
        """
        if run != self._run:
            self._open(run, now_ms)
        if run != self.pins.run:
            self._keep(())
        newest = self._weights.latest()
        self._pin(newest)
        self.state = self._describe(newest)
        num_scored = 0
        for number in self._feed.waiting():
            # What Redis kept from being written is written now, and not scored a second time.
            if number != self._scored:
                num_scored += self._score(self._feed.read(number, self._layout), now_ms)
                self._scored = number
            failpoint("twin.before_write")
            self._recorder.write(number, now_ms)
            failpoint("twin.before_done")
            self._feed.done(number)
        return num_scored

    def _describe(self, newest: Manifest | None) -> str:
        pinned, hours = self.pins.manifests, self._settings.monitor.twin_age_h
        if newest is None or not pinned:
            return "waits for weights to be published"
        have_h = (newest.learned_ts - pinned[0].learned_ts) / _HOUR_MS
        if have_h < hours:
            return f"waits for weights {hours:g} h old (event time); so far {have_h:.1f} h"
        dropped = self._feed.dropped()
        return f"no monitor ran, or Redis was full: samples of {dropped} checkpoints were dropped" if dropped else ""

    # Weights ------------------------------------------------------------------------------------------------------

    def _pin(self, manifest: Manifest | None) -> None:
        pinned = self.pins.manifests
        if manifest is None or not manifest.learned_ts:
            return
        if pinned and manifest.learned_ts < pinned[-1].learned_ts - self._age_ms:
            # Another log is being replayed, and event time has begun anew.
            self._keep(())
            pinned = ()
        if not pinned or manifest.learned_ts - pinned[-1].learned_ts >= self._age_ms / _STEPS:
            try:
                self._keep((*pinned, self._weights.pin(manifest)))
            except WeightsError:
                # Retired meanwhile: the next poll finds younger ones.
                return

    def _keep(self, manifests: tuple[Manifest, ...]) -> None:
        """Let these be the pinned weights, and no others."""
        self._weights.unpin((m for m in self.pins.manifests if m not in manifests), manifests)
        self.pins = Pins(self._run, manifests)
        self._client.set(self._key, msgspec.json.encode(self.pins))

    def _choose(self, ts: int) -> Manifest | None:
        """The youngest weights that are old enough for impressions from `ts` on; much older ones are let go."""
        old_enough = [m for m in self.pins.manifests if m.learned_ts <= ts - self._age_ms]
        if not old_enough:
            return None
        chosen = old_enough[-1]
        if chosen.version != self._version:
            model = ServingModel(self._settings.recipe)
            try:
                for ref in (chosen.base, *chosen.deltas):
                    model.load(self._weights.read(ref))
            except StoreUnavailableError as exc:
                log.warning("the frozen twin waits: %s", exc)
                return None
            except WeightsError as exc:
                log.warning("the frozen twin starts anew: %s", exc)
                self._keep(())
                return None
            self._model, self._version = model, chosen.version
        # One more is kept, as the next impressions may be a little older than these.
        if len(old_enough) > 2:
            self._keep(tuple(m for m in self.pins.manifests if m.version >= old_enough[-2].version))
        return chosen

    # Scoring ------------------------------------------------------------------------------------------------------

    def _score(self, scored: Scored, now_ms: int) -> int:
        if not len(scored):
            return 0
        rows = scored.samples.rows_B
        # By the oldest impression: no weights may have learned from what they are asked to predict.
        base_ts = rows["ts"][rows["kind"] != SampleKind.CORRECTION]
        chosen = self._choose(int(base_ts.min() if len(base_ts) else rows["ts"][0]))
        if chosen is None:
            self._meter.pass_over(len(base_ts), now_ms)
            return 0
        assert self._model is not None
        for at, samples in zip(range(0, len(rows), _BATCH), blocks(scored.samples, _BATCH), strict=True):
            frozen = self._model.predict(samples)
            predictions_B = scored.predictions_B[at : at + _BATCH]
            learned = learned_of(samples, predictions_B)
            age_ms = float(samples.rows_B["ts"].mean()) - chosen.learned_ts
            nowhere = np.zeros(len(samples), np.int64)
            logged = log_columns(
                samples, (nowhere, nowhere), predictions_B, predictions_B, frozen.predictions_B, chosen.version
            )
            self._meter.observe(logged, samples, learned, chosen.version, now_ms, age_ms=age_ms)
        return len(rows)
