"use strict";

// What is decided about weights, and how far the canary's trial is.
function showRollout(health) {
  const rollout = health.rollout;
  const canary = health.learner && health.learner.canary;
  byId("rollout").hidden = !canary && !rollout.revision;
  const version = (number) => (number ? String(number) : "\u2013");
  const tiles = [
    tile("stable version", version(rollout.stable)), tile("candidate", version(rollout.candidate)),
    tile("pinned version", version(rollout.pinned)), tile("publishing", rollout.hold ? `held: ${rollout.hold}` : "goes on"),
  ];
  if (canary) {
    tiles.push(tile("outcomes of the trial", `${whole(canary.outcomes)} of ${whole(canary.wanted)}`));
    const names = { log_loss: "log-loss", log_loss_cold: "log-loss of new users", too_high: "too high", too_low: "too low" };
    for (const [name, value] of Object.entries(canary.evidence)) {
      tiles.push(tile(`evidence of harm: ${names[name] || name}`, `${fixed(value, 1)} of ${fixed(canary.limit, 1)}`));
    }
  }
  byId("rollout-now").replaceChildren(...tiles);
  const rows = rollout.decisions.slice(-20).reverse().map((one) =>
    [new Date(one.time_ms).toISOString().slice(0, 19) + "Z", one.what, version(one.version), one.why, one.by]);
  fill(byId("decisions"), ["time", "what", "version", "why", "by"], rows);
}
