"use strict";

// A test of two pipelines behind a made-up world: how far it is, and what it says so far.
function showTest(test) {
  byId("abtest").hidden = !test;
  if (!test) return;
  const day = test.day > 0 ? `day ${test.day} of ${test.days}` : "before the test";
  byId("abtest-said").textContent =
    `${test.title}: world ${test.world} of ${test.worlds} (seed ${test.seed}), ${day}. Differences of means per user, ` +
    "relative ones in %, gains of reach in points; 95 % intervals; worlds are pooled as random effects.";
  const labelled = (metric) => (test.labels && test.labels[metric]) || metric;
  const x = test.by_day.map((one) => one.day);
  const metrics = test.by_day.length ? Object.keys(test.by_day[test.by_day.length - 1].all) : [];
  draw("abtest-days", metrics.map((metric, n) => {
    const found = test.by_day.map((one) => one.all[metric] || { difference: null, low: null, high: null });
    const y = found.map((one) => one.difference === null ? null : 100 * one.difference);
    return {
      x, y, name: labelled(metric), mode: "lines+markers", line: { color: colours[n % colours.length], dash: DASHES[Math.floor(n / colours.length)] },
      error_y: { type: "data", array: found.map((one, i) => 100 * one.high - y[i]), width: 2, thickness: 1 },
      text: test.by_day.map((one) => `${one.worlds} worlds`), hovertemplate: "%{y:+.2f} (%{text})<extra>%{fullData.name}</extra>",
    };
  }), "all users, by day of the test", { xaxis: { dtick: 1 }, yaxis: { zeroline: true } });
  const cell = (one) => {
    if (!one) return "\u2013";
    const [value, low, high] = [one.difference, one.low, one.high].map((share) => fixed(100 * share, 2));
    return `${value} [${low}, ${high}]`;
  };
  const groups = ["new", "old", "all"];
  fill(byId("abtest-table"), ["per user", ...groups], metrics.map((metric) =>
    [labelled(metric), ...groups.map((group) => cell(test[group] && test[group][metric]))]));
}
