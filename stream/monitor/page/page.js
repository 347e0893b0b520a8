"use strict";

const byId = (id) => document.getElementById(id);
const colours = ["#d1495b", "#e07a1f", "#b8990a", "#2e8b57", "#1f7fbf", "#7a5cc0", "#7a8793"];
let shown = null;
let beside = null;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function ask(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.statusText);
  return body;
}

const fixed = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const whole = (value) => value.toLocaleString("en");

function layout(title, extra = {}) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const line = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const { xaxis = {}, yaxis = {}, ...rest } = extra;
  return {
    title: { text: title, font: { size: 14 } }, font: { color: ink, size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 36, b: 40 },
    legend: { orientation: "h", y: -0.2 }, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

const draw = (id, traces, title, extra) =>
  Plotly.react(byId(id), traces, layout(title, extra), { responsive: true, displaylogo: false, displayModeBar: false });

function times(series, axis) {
  if (axis === "event") return series.last_ts.map((t) => new Date(t).toISOString());
  if (axis === "wall") return series.end_ms.map((t) => new Date(t).toISOString());
  return series.end_ms.map((t) => new Date(t % 86400000).toISOString());
}

function lines(view, metric, dimension, axis, dash) {
  if (!view || !view.series) return [];
  const x = times(view.series, axis);
  return view.series.lines.filter((line) => line.dimension === dimension).map((line, n) => ({
    x, y: line[metric].map((e) => e[0]), name: `${line.cohort}${dash === "solid" ? "" : " (" + view.run + ")"}`,
    mode: "lines+markers", marker: { size: 4 }, line: { color: colours[n % colours.length], dash },
    text: line[metric].map((e, i) => `${fixed(e[1])} to ${fixed(e[2])}, ${whole(line.samples[i])} samples`),
    hovertemplate: "%{y:.4f} (%{text})<extra>%{fullData.name}</extra>",
  }));
}

function drawSeries() {
  const metric = byId("metric").value, dimension = byId("dimension").value, axis = byId("axis").value;
  const marks = (shown.series ? shown.series.alarms : []).map((alarm) => ({
    type: "line", xref: "x", yref: "paper", y0: 0, y1: 1, line: { color: "#d1495b", dash: "dot", width: 1 },
    x0: new Date(alarm.end_ms).toISOString(), x1: new Date(alarm.end_ms).toISOString(),
  }));
  const traces = [...lines(shown, metric, dimension, axis, "solid"), ...lines(beside, metric, dimension, axis, "dash")];
  const title = byId("metric").selectedOptions[0].text;
  const format = axis === "day" ? { tickformat: "%H:%M" } : {};
  draw("series", traces, title, { shapes: axis === "wall" ? marks : [], xaxis: { type: "date", ...format } });
  const list = byId("alarms");
  list.replaceChildren();
  for (const alarm of shown.series ? shown.series.alarms.slice(-8).reverse() : []) {
    list.append(element("li", `${new Date(alarm.end_ms).toISOString().slice(0, 19)}Z  ${alarm.said}`, { class: "bad" }));
  }
}

function drawTable() {
  const table = byId("now");
  const head = document.createElement("thead");
  const body = document.createElement("tbody");
  const names = ["cohort", "samples", "positives", "AUC", "NE", "log-loss", "calibration", "against popularity", "unseen users"];
  const row = document.createElement("tr");
  for (const name of names) row.append(element("th", name, { scope: "col" }));
  head.append(row);
  for (const figures of shown.now) {
    const line = document.createElement("tr");
    line.append(element("th", figures.dimension === "all" ? "all" : `${figures.dimension} ${figures.cohort}`, { scope: "row" }));
    line.append(element("td", whole(figures.samples)), element("td", whole(figures.positives)));
    for (const name of ["auc", "ne", "log_loss", "calibration"]) {
      const estimate = figures[name];
      const cell = element("td", fixed(estimate.value));
      if (estimate.low !== null) cell.append(" ", element("small", `[${fixed(estimate.low)}, ${fixed(estimate.high)}]`));
      line.append(cell);
    }
    line.append(element("td", figures.benefit === null ? "–" : `${fixed(figures.benefit, 4)} nats`));
    line.append(element("td", figures.unseen_users === undefined ? "–" : `${fixed(100 * figures.unseen_users, 1)} %`));
    body.append(line);
  }
  table.replaceChildren(table.caption, head, body);
}

function drawPassage() {
  if (!shown.nth) return;
  const x = shown.nth.samples.map((_, n) => n + 1);
  draw("nth", [
    { x, y: shown.nth.log_loss, name: "log-loss", mode: "lines+markers", marker: { size: 4 }, line: { color: colours[0] } },
    { x, y: shown.nth.calibration, name: "calibration", yaxis: "y2", mode: "lines", line: { color: colours[4] } },
  ], "by the user's n-th impression", {
    xaxis: { title: { text: "n" } }, yaxis: { title: { text: "log-loss" } },
    yaxis2: { overlaying: "y", side: "right", title: { text: "calibration" }, showgrid: false, automargin: true },
  });
  draw("arrivals", [{
    type: "heatmap", z: shown.arrivals.map((day) => day.log_loss), x: shown.cohorts,
    y: shown.arrivals.map((day) => new Date(day.day * 86400000).toISOString().slice(0, 10)), colorscale: "Viridis",
    customdata: shown.arrivals.map((day) => day.samples),
    hovertemplate: "came %{y}, %{x} impressions<br>log-loss %{z:.4f}, %{customdata} samples<extra></extra>",
  }], "log-loss by arrival day and earlier impressions", { xaxis: { type: "category" }, yaxis: { type: "category" } });
}

function drawAdapter() {
  const users = shown.whole.filter((row) => row.dimension === "user" && row.adapter);
  draw("adapter", shown.fields.map((field, n) => ({
    type: "bar", name: field, x: users.map((row) => row.cohort), y: users.map((row) => row.adapter[n]),
  })), "adapter weight, by earlier impressions", { barmode: "group", xaxis: { type: "category" }, yaxis: { range: [0, 1] } });
  const series = shown.series;
  if (!series) return;
  draw("norms", series.lines.filter((line) => line.dimension === "user").map((line, n) => ({
    x: times(series, "wall"), y: line.user_norm, name: line.cohort, mode: "lines", line: { color: colours[n % colours.length] },
  })), "norm of the user's embedding", { xaxis: { type: "date" } });
}

function drawAll() {
  drawSeries();
  drawTable();
  drawPassage();
  drawAdapter();
}

function options(select, names, empty) {
  const held = select.value;
  const have = [...select.options].map((option) => option.value);
  const want = empty ? ["", ...names] : names;
  if (JSON.stringify(have) === JSON.stringify(want)) return;
  select.replaceChildren(...want.map((name) => element("option", name || "none", { value: name })));
  select.value = want.includes(held) ? held : empty ? "" : want[want.length - 1] || "";
}

async function refreshView() {
  const runs = await ask("api/runs");
  options(byId("run"), runs, false);
  options(byId("other"), runs, true);
  shown = await ask(`api/view?run=${encodeURIComponent(byId("run").value)}`);
  const other = byId("other").value;
  beside = other ? await ask(`api/view?run=${encodeURIComponent(other)}`) : null;
  drawAll();
}

function tile(name, value) {
  const box = document.createElement("div");
  box.append(element("dt", name), element("dd", value));
  return box;
}

async function refreshHealth() {
  const health = await ask("api/health");
  const learner = health.learner;
  const workers = Object.values(health.workers);
  const lag = workers.flatMap((worker) => Object.values(worker.lag)).reduce((a, b) => a + b, 0);
  const counts = health.counts;
  const delays = Object.values(health.watermark_delay_s);
  const mebibytes = (bytes) => `${Math.round(bytes / 1048576)} MiB`;
  const tiles = [
    tile("workers", `${workers.length}${workers.length ? ", " + workers.map((w) => mebibytes(w.resident_bytes)).join(", ") : ""}`),
    tile("records behind", whole(lag)),
    tile("events in", whole((counts.impressions || 0) + (counts.feedback || 0))),
    tile("positive / negative", `${whole(counts.positive || 0)} / ${whole(counts.negative || 0)}`),
    tile("late labels", whole(counts.correction || 0)),
    tile("orphans / late", `${whole(counts.orphan || 0)} / ${whole(counts.late || 0)}`),
    tile("malformed", whole(counts.malformed || 0)),
    tile("lost to retention", whole(counts.gap || 0)),
    tile("watermark behind by", delays.length ? `${fixed(Math.max(...delays), 0)} s` : "–"),
  ];
  if (learner) {
    const age = learner.published_ms ? (health.time_ms - learner.published_ms) / 1000 : null;
    tiles.push(
      tile("samples learned", whole(learner.num_trained)),
      tile("weights", `version ${learner.version}, ${fixed(age, 1)} s old`),
      tile("event to weights", `p50 ${fixed(learner.freshness_p50_s, 1)} s, p99 ${fixed(learner.freshness_p99_s, 1)} s`),
      tile("learner step", `${fixed(1000 * learner.step_s, 2)} ms`),
      tile("learner memory", mebibytes(learner.resident_bytes)),
      tile("embedding rows", whole(learner.rows)),
    );
    if (learner.held_back) tiles.push(tile("weights held back", learner.held_back));
  }
  byId("health").replaceChildren(...tiles);
  const state = byId("state");
  state.textContent = health.missing.length ? health.missing.join("; ") : "every role reports";
  state.className = health.missing.length ? "bad" : "";
}

function showUser(user) {
  const found = byId("found");
  const facts = document.createElement("dl");
  facts.className = "tiles";
  const counts = Object.entries(user.counts).map(([name, count]) => `${name} ${whole(count)}`).join(", ");
  facts.append(tile("cohort", user.cohort), tile("counts", counts), tile("norm", `${fixed(user.norm)} (weights ${user.norm_version})`));
  for (const [field, weight] of Object.entries(user.adapter || {})) facts.append(tile(`weight of ${field}`, fixed(weight)));
  found.replaceChildren(facts);
  if (!user.predictions.length) return;
  const table = document.createElement("table");
  table.append(element("caption", "recent predictions, made before learning; newest first"));
  const head = document.createElement("tr");
  for (const name of ["impression", "item", "time", "prediction", "popularity", "outcome"]) head.append(element("th", name, { scope: "col" }));
  table.append(head);
  for (const row of user.predictions) {
    const line = document.createElement("tr");
    const cells = [row.imp_id, row.item_id, new Date(row.ts).toISOString().slice(0, 19) + "Z", fixed(row.prediction), fixed(row.baseline), row.label ? "positive" : "negative"];
    for (const cell of cells) line.append(element("td", cell));
    table.append(line);
  }
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.append(table);
  found.append(scroll);
}

function repeat(task, everyMs) {
  const round = async () => {
    try {
      await task();
    } catch (error) {
      byId("state").textContent = error.message;
      byId("state").className = "bad";
    }
    setTimeout(round, everyMs);
  };
  round();
}

byId("lookup").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    showUser(await ask(`api/user?id=${encodeURIComponent(byId("user").value)}`));
  } catch (error) {
    byId("found").replaceChildren(element("p", error.message, { class: "bad" }));
  }
});
for (const id of ["metric", "dimension", "axis"]) byId(id).addEventListener("change", () => shown && drawSeries());
for (const id of ["run", "other"]) byId(id).addEventListener("change", refreshView);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && drawAll());

if (window.REPORT) {
  shown = window.REPORT;
  drawAll();
} else {
  repeat(refreshView, 4000);
  repeat(refreshHealth, 1000);
}
