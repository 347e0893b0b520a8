"use strict";

const byId = (id) => document.getElementById(id);
const colours = ["#d1495b", "#e07a1f", "#b8990a", "#2e8b57", "#1f7fbf", "#7a5cc0", "#7a8793"];
let shown = null;
let beside = null;
let twinState = "";
let drawn = "";

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A token comes behind the # of the address, which no server and no log sees; it is kept for this tab, and taken away from there.
const TOKEN = "coldstream-token";
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  sessionStorage.setItem(TOKEN, given);
  history.replaceState(null, "", location.pathname + location.search);
}

async function answerOf(path) {
  const token = window.REPORT ? null : sessionStorage.getItem(TOKEN);
  const answer = await fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  if (answer.status === 401) byId("login").hidden = false;
  if (!answer.ok) throw new Error((await answer.json()).error || answer.statusText);
  return answer;
}

const ask = async (path) => (await answerOf(path)).json();

const fixed = (value, digits = 3) => (value === null || value === undefined ? "\u2013" : value.toFixed(digits));

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

const DAY_MS = 86400000;
const time = (ms) => new Date(ms).toISOString();
const whole = (value) => value.toLocaleString("en");
const DASHES = ["solid", "dash", "dot", "dashdot"];

// A line is drawn in pieces: one, or, where days are laid side by side, one for each of the newest days.
function pieces(series, axis) {
  const all = series.end_ms.map((_, i) => i);
  if (axis !== "day") return [{ name: "", at: all, x: series[axis === "event" ? "last_ts" : "end_ms"].map(time) }];
  const days = [...new Set(series.end_ms.map((t) => Math.floor(t / DAY_MS)))].slice(-DASHES.length).reverse();
  return days.map((day) => {
    const at = all.filter((i) => Math.floor(series.end_ms[i] / DAY_MS) === day);
    return { name: time(day * DAY_MS).slice(0, 10), at, x: at.map((i) => time(series.end_ms[i] % DAY_MS)) };
  });
}

function translucent(colour) {
  return `rgba(${[1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)).join(",")},0.13)`;
}

// A line with its 95 % interval as a band behind it.
function banded(line, metric, piece, colour, dash, name) {
  const values = piece.at.map((i) => line[metric][i]);
  const samples = piece.at.map((i) => line.samples[i]);
  const edge = { x: piece.x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: name };
  return [
    { ...edge, y: values.map((e) => e[1]) },
    { ...edge, y: values.map((e) => e[2]), fill: "tonexty", fillcolor: translucent(colour) },
    {
      x: piece.x, y: values.map((e) => e[0]), name, legendgroup: name, mode: "lines+markers", marker: { size: 4 },
      line: { color: colour, dash }, text: values.map((e, i) => `${fixed(e[1])} to ${fixed(e[2])}, ${whole(samples[i])} samples`),
      hovertemplate: "%{y:.4f} (%{text})<extra>%{fullData.name}</extra>",
    },
  ];
}

function lines(view, metric, dimension, axis, first) {
  if (!view || !view.series) return [];
  const shape = pieces(view.series, axis);
  return view.series.lines.filter((line) => line.dimension === dimension).flatMap((line, n) =>
    shape.flatMap((piece, day) => banded(
      line, metric, piece, colours[n % colours.length], DASHES[(first + day) % DASHES.length],
      [line.cohort, piece.name, first ? `(${view.run})` : ""].filter(Boolean).join(" "))));
}

function drawSeries() {
  const metric = byId("metric").value, dimension = byId("dimension").value, axis = byId("axis").value;
  const marks = (shown.series ? shown.series.alarms : []).map((alarm) => ({
    type: "line", xref: "x", yref: "paper", y0: 0, y1: 1, line: { color: "#d1495b", dash: "dot", width: 1 },
    x0: time(alarm.end_ms), x1: time(alarm.end_ms),
  }));
  const traces = [...lines(shown, metric, dimension, axis, 0), ...lines(beside, metric, dimension, axis, 1)];
  const title = byId("metric").selectedOptions[0].text;
  const format = axis === "day" ? { tickformat: "%H:%M" } : {};
  draw("series", traces, title, { shapes: axis === "wall" ? marks : [], xaxis: { type: "date", ...format } });
  const list = byId("alarms");
  list.replaceChildren();
  for (const alarm of shown.series ? shown.series.alarms.slice(-8).reverse() : []) {
    list.append(element("li", `${time(alarm.end_ms).slice(0, 19)}Z  ${alarm.said}`, { class: "bad" }));
  }
  if (shown.unscored) {
    const said = `${whole(shown.unscored)} predictions of this run were no numbers: the model diverged; they are in no figure`;
    list.append(element("li", said, { class: "bad" }));
  }
}

function fill(table, names, rows) {
  const head = document.createElement("thead"), body = document.createElement("tbody");
  const top = document.createElement("tr");
  top.append(...names.map((name) => element("th", name, { scope: "col" })));
  head.append(top);
  for (const [name, ...cells] of rows) {
    const line = document.createElement("tr");
    line.append(element("th", name, { scope: "row" }), ...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    body.append(line);
  }
  table.replaceChildren(table.caption, head, body);
}

function estimated(estimate, digits = 3) {
  const cell = element("td", fixed(estimate.value, digits));
  if (estimate.low !== null) cell.append(" ", element("small", `[${fixed(estimate.low, digits)}, ${fixed(estimate.high, digits)}]`));
  return cell;
}

const percent = (share) => (share === null || share === undefined ? "\u2013" : `${fixed(100 * share, 1)} %`);

function drawTable() {
  const table = byId("now"), over = byId("over").value;
  table.caption.textContent = {
    now: `last ${whole(shown.window_s / 60)} minutes`,
    faded: `a sample counts half after ${whole(shown.half_life)} more of its cohort; samples: what they are worth`,
    whole: "every sample of the run",
  }[over] + "; 95 % intervals in brackets; against popularity: log-loss, nats, more is better";
  const names = ["cohort", "samples", "positives", "AUC", "UAUC", "rank UAUC", "NE", "log-loss", "calibration", "against popularity", "unseen users"];
  fill(table, names, shown[over].map((row) => [
    row.dimension === "all" ? "all" : `${row.dimension} ${row.cohort}`, whole(row.samples), whole(row.positives),
    ...["auc", "uauc", "rank_uauc", "ne", "log_loss", "calibration"].map((name) => estimated(row[name])),
    estimated(row.benefit, 4), percent(row.unseen_users),
  ]));
}

function seconds(value) {
  if (value === null || value === undefined) return "\u2013";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) if (value >= 2 * size) return `${whole(Math.round(value / size))} ${unit}`;
  return `${whole(value)} s`;
}

function drawFeatures() {
  fill(byId("features"), ["feature", "missing", "new id", "age at use, median", "99 %"], (shown.freshness || []).map((row) => [
    row.feature, percent(row.null.value), percent(row.new), seconds(row.age_p50_s), seconds(row.age_p99_s),
  ]));
}

function drawTwin() {
  const twin = shown.twin;
  byId("twin").hidden = !twin;
  byId("twin-said").textContent = twin
    ? `The live weights beside weights that were ${fixed(twin.age_h, 1)} h old on average (event time), on the same ` +
      `${whole(twin.whole[0].samples)} impressions of a share of the users: AUC ${fixed(twin.whole[0].auc.value)} ` +
      `against ${fixed(twin.whole[0].reference_auc.value)}.` +
      (twin.unscored ? ` For ${whole(twin.unscored)} more, no weights were old enough.` : "")
    : `Nothing yet: frozen weights are compared once they have their age. ${twinState}`;
  if (!twin) return;
  const users = twin.whole.filter((row) => row.dimension !== "item" && row.dimension !== "account" && row.benefit.value !== null);
  draw("twin-cohorts", [{
    x: users.map((row) => row.benefit.value), y: users.map((row) => row.cohort), mode: "markers", marker: { size: 9, color: colours[4] },
    error_x: {
      type: "data", symmetric: false, color: colours[4],
      array: users.map((row) => row.benefit.high - row.benefit.value), arrayminus: users.map((row) => row.benefit.value - row.benefit.low),
    },
    text: users.map((row) => `AUC ${fixed(row.auc.value)} against ${fixed(row.reference_auc.value)}, ${whole(row.samples)} samples`),
    hovertemplate: "%{x:.4f} nats<br>%{text}<extra>%{y} impressions</extra>",
  }], "log-loss saved, nats, by earlier impressions (95 %)", { yaxis: { type: "category", autorange: "reversed" }, xaxis: { zeroline: true } });
  const x = twin.series.end_ms.map(time);
  draw("twin-series", [
    ...banded({ samples: x.map(() => 0), benefit: twin.series.benefit }, "benefit", { at: x.map((_, i) => i), x }, colours[4], "solid", "log-loss saved"),
    { x, y: twin.series.age_h, name: "age of the frozen weights", yaxis: "y2", mode: "lines", line: { color: colours[6], dash: "dot" } },
  ].map((trace) => ({ ...trace, text: undefined, hovertemplate: trace.hoverinfo ? undefined : "%{y:.4g}<extra>%{fullData.name}</extra>" })),
  "over time", { xaxis: { type: "date" }, yaxis: { title: { text: "nats" } },
    yaxis2: { overlaying: "y", side: "right", title: { text: "age, hours" }, showgrid: false, automargin: true, tickmode: "auto", rangemode: "tozero" } });
}

// The latest of each kind of group: what was served, with labels as known now, beside what the learner says of the same impressions.
function drawServed() {
  const served = shown.served;
  byId("served-section").hidden = !served;
  if (!served) return;
  const over = byId("over").value === "now" ? "now" : "whole";
  const rows = served[over];
  const name = (row) => (row.dimension === "all" ? "all" : row.dimension === "share" ? row.cohort : `${row.dimension} ${row.cohort}`);
  const everything = rows.find((row) => row.dimension === "all");
  byId("served-said").textContent =
    "What a scorer said and was shown, joined with its label, beside what the learner predicted right before it learned that label. " +
    (everything ? `Off by ${fixed(everything.skew_abs, 4)} on average; with the sign, by ${fixed(everything.skew, 4)}.` : "");
  const table = byId("served");
  table.caption.textContent = (over === "now" ? `last ${whole(shown.window_s / 60)} minutes` : "every impression of the run") +
    "; 95 % intervals in brackets; skew: served less the learner's own; its quantiles to the next eighth of a decade";
  const names = ["group", "impressions", "positives", "served, mean", "AUC", "UAUC", "NE", "log-loss", "calibration", "log-loss saved", "skew", "skew, absolute", "median", "99 %"];
  fill(table, names, rows.map((row) => [
    name(row), whole(row.samples), percent(row.rate.value), fixed(row.mean), estimated(row.auc), row.uauc ? estimated(row.uauc) : "\u2013",
    estimated(row.ne), estimated(row.log_loss), estimated(row.calibration), estimated(row.benefit, 4),
    fixed(row.skew, 4), fixed(row.skew_abs, 4), fixed(row.skew_p50, 4), fixed(row.skew_p99, 4),
  ]));
  const groups = rows.filter((row) => row.benefit.value !== null && row.dimension !== "account");
  draw("served-groups", [{
    x: groups.map((row) => row.benefit.value), y: groups.map(name), mode: "markers", marker: { size: 8, color: colours[4] },
    error_x: {
      type: "data", symmetric: false, color: colours[4],
      array: groups.map((row) => row.benefit.high - row.benefit.value), arrayminus: groups.map((row) => row.benefit.value - row.benefit.low),
    },
    text: groups.map((row) => `off by ${fixed(row.skew_abs, 4)}, ${whole(row.samples)} impressions`),
    hovertemplate: "%{x:.4f} nats<br>%{text}<extra>%{y}</extra>",
  }], "log-loss saved against the learner's own prediction, nats (95 %)", { height: Math.max(360, 90 + 15 * groups.length), yaxis: { type: "category", autorange: "reversed", dtick: 1, tickfont: { size: 10 } }, xaxis: { zeroline: true } });
  const x = served.series.end_ms.map(time);
  const line = (metric, called, colour, dash) => ({ x, y: served.series[metric], name: called, mode: "lines+markers", marker: { size: 4 }, line: { color: colour, dash } });
  draw("served-series", [
    line("skew_abs", "absolute, mean", colours[4], "solid"), line("skew_p99", "absolute, 99 %", colours[1], "dot"), line("skew", "mean", colours[6], "dash"),
  ], "served less the learner's own prediction", { xaxis: { type: "date" } });
  const alarms = served.alarms.slice(-4).reverse();
  byId("served-alarms").replaceChildren(...alarms.map((alarm) => element("li", `${time(alarm.end_ms).slice(0, 19)}Z  ${alarm.said}`)));
}

function drawPassage() {
  if (!shown.nth) return;
  const x = shown.nth.samples.map((_, n) => n + 1);
  const curve = (metric, name, colour) => banded(shown.nth, metric, { at: x.map((n) => n - 1), x }, colour, "solid", name);
  draw("nth", [
    ...curve("log_loss", "log-loss", colours[0]),
    ...curve("calibration", "calibration", colours[4]).map((trace) => ({ ...trace, yaxis: "y2" })),
  ], "by the user's n-th impression", {
    xaxis: { title: { text: "n" } }, yaxis: { title: { text: "log-loss" } },
    yaxis2: { overlaying: "y", side: "right", title: { text: "calibration" }, showgrid: false, automargin: true, tickmode: "auto", tickformat: ".2f" },
  });
  draw("arrivals", [{
    type: "heatmap", z: shown.arrivals.map((day) => day.log_loss), x: shown.cohorts,
    y: shown.arrivals.map((day) => new Date(day.day * 86400000).toISOString().slice(0, 10)), colorscale: "Viridis",
    customdata: shown.arrivals.map((day) => day.samples),
    hovertemplate: "came %{y}, %{x} impressions<br>log-loss %{z:.4f}, %{customdata} samples<extra></extra>",
  }], "log-loss by arrival day and earlier impressions", { xaxis: { type: "category" }, yaxis: { type: "category" } });
}

function drawWeights() {
  const users = shown.whole.filter((row) => row.dimension === "user" && row.weights);
  draw("weights", shown.weights.map((part, n) => ({
    type: "bar", name: part, x: users.map((row) => row.cohort), y: users.map((row) => row.weights[n]),
  })), "weight of each part, by earlier impressions", { barmode: "group", xaxis: { type: "category" }, yaxis: { range: [0, 2] } });
  const series = shown.series;
  if (!series) return;
  draw("norms", series.lines.filter((line) => line.dimension === "user").map((line, n) => ({
    x: series.end_ms.map(time), y: line.user_norm, name: line.cohort, mode: "lines", line: { color: colours[n % colours.length] },
  })), "norm of the user's embedding", { xaxis: { type: "date" } });
}

function drawAll() {
  drawSeries();
  drawTable();
  drawServed();
  drawTwin();
  drawPassage();
  drawWeights();
  drawFeatures();
}

function options(select, names, empty, first) {
  const held = select.value;
  const have = [...select.options].map((option) => option.value);
  const want = empty ? ["", ...names] : names;
  if (JSON.stringify(have) === JSON.stringify(want)) return;
  select.replaceChildren(...want.map((name) => element("option", name || "none", { value: name })));
  select.value = want.includes(held) ? held : empty ? "" : first || want[want.length - 1] || "";
}

async function view(run) {
  const answer = await answerOf(`api/view?run=${encodeURIComponent(run)}&fading=${byId("points").value}&task=${encodeURIComponent(byId("task").value)}`);
  return { tag: answer.headers.get("ETag"), ...(await answer.json()) };
}

async function refreshView() {
  const runs = await ask("api/runs");
  options(byId("run"), runs, false);
  options(byId("other"), runs, true);
  shown = await view(byId("run").value);
  const other = byId("other").value;
  beside = other ? await view(other) : null;
  // Figures come with each checkpoint; in between there is nothing new to draw.
  const now = [shown.tag, beside && beside.tag, twinState].join();
  if (now !== drawn) drawAll();
  drawn = now;
}

// Live: what the join said of each task; of a finished run: how the score ranks them.
function drawTasks(tasks) {
  const share = (value) => (value === null || value === undefined ? "\u2013" : percent(value));
  const live = tasks.length && "waiting" in tasks[0];
  const names = live
    ? ["task", "positive", "negative", "not known yet", "known later", "turned", "share of positives"]
    : ["task", "impressions", "share of positives", "AUC", "AUC as served", "rank UAUC", "AUC of popularity"];
  const rows = tasks.map((row) => {
    const name = row.task + (row.learned ? " (learned)" : "");
    if (!live) return [name, whole(row.samples), share(row.base_rate), fixed(row.auc), fixed(row.served_auc), fixed(row.rank_uauc), fixed(row.baseline_auc)];
    const later = row.late_positive + row.late_negative;
    return [name, whole(row.positive), whole(row.negative), whole(row.waiting), whole(later), whole(row.correction), share(row.rate)];
  });
  fill(byId("tasks"), names, rows);
}

function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const n = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, count)) / 10)));
  return `${fixed(count / 1024 ** n, n ? 1 : 0)} ${units[n]}`;
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
  const mebibytes = (bytes) => (bytes === null ? "\u2013" : `${Math.round(bytes / 1048576)} MiB`);
  const outcomes = Object.entries(health.outcomes).filter(([name]) => name !== "OK").map(([name, n]) => `${name} ${whole(n)}`);
  twinState = health.twin;
  const tiles = [
    tile("workers", `${workers.length}${workers.length ? ", " + workers.map((w) => mebibytes(w.resident_bytes)).join(", ") : ""}`),
    tile("records behind", whole(lag)),
    tile("events in", whole((counts.impressions || 0) + (counts.feedback || 0))),
    tile("positive / negative", `${whole(counts.positive || 0)} / ${whole(counts.negative || 0)}`),
    tile("late labels", whole(counts.correction || 0)),
    tile("feedback that met its impression", percent(health.rates.hit)),
    tile("orphans / late", `${percent(health.rates.orphan)} / ${percent(health.rates.late)}`),
    tile("dead letters", `${whole((counts.malformed || 0) + (counts.orphan || 0) + (counts.late || 0))}, ${percent(health.rates.dead_letter)}`),
    tile("fence", `OK ${whole(health.outcomes.OK || 0)}${outcomes.length ? ", " + outcomes.join(", ") : ""}`),
    tile("lost to retention", whole(counts.gap || 0)),
    tile("watermark behind by", delays.length ? seconds(Math.round(Math.max(...delays))) : "\u2013"),
  ];
  drawTasks(health.tasks);
  const learned = health.tasks.filter((row) => row.learned && !row.value_unit).map((row) => row.task);
  byId("task-choice").hidden = learned.length < 2;
  options(byId("task"), learned, false, health.tasks.find((row) => row.main).task);
  if (learner) {
    tiles.push(tile("samples behind: learner / norms", `${whole(health.sample_lag.learner)} / ${whole(health.sample_lag.norms)}`));
    const age = learner.published_ms ? (health.time_ms - learner.published_ms) / 1000 : null;
    tiles.push(
      tile("samples learned", whole(learner.num_trained)),
      tile("weights", `version ${learner.version}, ${fixed(age, 1)} s old`),
      tile("event to weights", `p50 ${fixed(learner.freshness_p50_s, 1)} s, p99 ${fixed(learner.freshness_p99_s, 1)} s`),
      tile("learner step", `${fixed(1000 * learner.step_s, 1)} ms, at most ${fixed(1000 * learner.step_max_s, 1)} ms`),
      tile("learner memory", mebibytes(learner.resident_bytes)),
      tile("embedding rows", whole(learner.rows)),
    );
    if (learner.codes) {
      const codes = learner.codes;
      const used = `perplexity ${fixed(codes.perplexity, 1)} of ${codes.codes}, at least ${fixed(codes.perplexity_min, 1)}`;
      const moved = codes.moved === null ? "" : `, moved ${fixed(100 * codes.moved, 1)} %`;
      tiles.push(tile(`codes of samples, version ${codes.version}`, `${used}; ${fixed(100 * codes.dead, 1)} % dead${moved}`));
    }
    if (learner.held_back) tiles.push(tile("weights held back", learner.held_back));
  }
  tiles.push(tile("Redis / monitor memory", `${mebibytes(health.redis_bytes)} / ${mebibytes(health.monitor_bytes)}`));
  if (health.redis_memory) {
    const memory = health.redis_memory, about = memory.is_whole ? "" : "about ";
    const kinds = memory.kinds.filter((row) => row.num_bytes > 0).map((row) => `${row.kind} ${about}${bytes(row.num_bytes)}`);
    const each = (size) => (size === null ? "\u2013" : `${about}${whole(Math.round(size))}`);
    tiles.push(
      tile("Redis memory by kind", kinds.join(", ") || "\u2013"),
      tile("bytes per user / item and partition", `${each(memory.user_bytes)} / ${each(memory.item_bytes)}`),
    );
  }
  byId("health").replaceChildren(...tiles);
  showWaits(health.waits, health.time_ms);
  showRollout(health);
  byId("findings").replaceChildren(...health.findings.map((found) => element("li", `${found.subject}: ${found.detail}`)));
  const state = byId("state");
  state.textContent = health.missing.length ? health.missing.join("; ") : "every role reports";
  state.className = health.missing.length ? "bad" : "";
}

function showWaits(waits, nowMs) {
  byId("waits").replaceChildren(...waits.map((wait) => {
    const who = wait.role === wait.name ? wait.role : `${wait.role} ${wait.name}`;
    const since = new Date(wait.since_ms).toISOString().slice(0, 19);
    return element("li", `${who}, ${wait.step}: ${wait.said} (since ${since}Z, ${seconds(Math.round((nowMs - wait.since_ms) / 1000))})`);
  }));
}

function showUser(user) {
  const found = byId("found");
  const facts = document.createElement("dl");
  facts.className = "tiles";
  const counts = Object.entries(user.counts).map(([name, count]) => `${name} ${whole(count)}`).join(", ");
  facts.append(tile("cohort", user.cohort), tile("counts", counts), tile("norm", `${fixed(user.norm)} (weights ${user.norm_version})`));
  for (const part of user.explained || []) facts.append(tile(`${part.part}, weighed ${fixed(part.weight)}`, fixed(part.component)));
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
  scroll.tabIndex = 0;
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
byId("over").addEventListener("change", () => shown && (drawTable(), drawServed()));
for (const id of ["run", "task", "other", "points"]) byId(id).addEventListener("change", refreshView);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && drawAll());

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value);
  byId("login").hidden = true;
});
window.addEventListener("hashchange", takeToken);

if (window.REPORT) {
  shown = window.REPORT;
  drawTasks(shown.tasks);
  drawAll();
} else {
  takeToken();
  repeat(refreshView, 4000);
  repeat(refreshHealth, 2000);
  repeat(async () => showTest(await ask("api/abtest")), 3000);
}
