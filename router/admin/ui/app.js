// The page: asks the admin API once a second and shows its answers, in the order in which an
// operator asks the questions. It keeps no state but what is on screen.

import { ApiError, askForToken, cancelRequest, read, setEndpoint } from "./api.js";
import { refreshModels, startChat } from "./chat.js";
import { startEvents } from "./events.js";
import { badge, byId, duration, extend, list, meter, node, say, setMeter, trail } from "./dom.js";

const EVERY = 1000;
let generation = 0;
let noticeTimer = 0;

function notice(text) {
  const box = byId("notice");
  say(box, text);
  box.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (box.hidden = true), 6000);
}

const attempt = (action) => async () => {
  try {
    await action();
    await refresh();
  } catch (error) {
    notice(error.message);
  }
};

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// --- the head ----------------------------------------------------------------------------------

function showFacts(info, clusters) {
  const sum = (pick) => clusters.reduce((total, cluster) => total + pick(cluster), 0);
  const endpoints = clusters.flatMap((cluster) => cluster.endpoints);
  const facts = [
    ["in flight", sum((cluster) => cluster.in_flight)],
    ["waiting", sum((cluster) => cluster.queued)],
    ["connections", info.connections],
    ["usable endpoints", `${sum((c) => c.usable)} of ${endpoints.length}`],
    ["generation", info.generation],
    ["up for", duration(info.uptime)],
  ];
  list(
    byId("facts"),
    facts,
    ([name]) => name,
    ([name]) => {
      const value = node("dd");
      return { element: node("div", {}, node("dt", {}, name), value), value };
    },
    (row, [, value]) => say(row.value, String(value)),
  );
  say(byId("version"), info.version);
  badge(byId("link"), info.state, { live: "good", draining: "wait" }[info.state] ?? "bad");
}

// --- what is exposed? --------------------------------------------------------------------------

function condition(name, { kind, value, invert }) {
  if (kind === "present") return invert ? `without ${name}` : `with ${name}`;
  const sign = { exact: "=", prefix: "starts with", suffix: "ends with", contains: "contains", regex: "matches" }[kind];
  return `${name} ${invert ? "not " : ""}${sign} ${value}`;
}

function conditions(match) {
  const parts = [];
  if (match.model) parts.push(`model ${match.model}`);
  if (match.host) parts.push(`host ${match.host}`);
  if (match.path) parts.push(condition("path", match.path));
  if (match.methods.length) parts.push(match.methods.join(" or "));
  for (const [name, test] of match.headers) parts.push(condition(name, test));
  return parts.join(", ") || "everything";
}

function destinations(arms) {
  const total = arms.reduce((sum, arm) => sum + arm.weight, 0);
  return arms
    .map((arm) => {
      const labels = arm.subset.map(([name, value]) => `${name}=${value}`).join(", ");
      const share = arms.length > 1 ? `${Math.round((100 * arm.weight) / total)}% ` : "";
      return `${share}${arm.cluster}${labels ? ` (${labels})` : ""}`;
    })
    .join(", ");
}

function times(timeouts) {
  const shown = [["first byte", timeouts.first_byte], ["silence", timeouts.idle], ["in all", timeouts.total]];
  return shown.filter(([, seconds]) => seconds > 0).map(([name, seconds]) => `${name} ${duration(seconds)}`).join(", ") || "no limit";
}

/** "10 a minute, 20 at once, for each user". */
function rate({ unit, bucket, per }) {
  const steady = bucket.fill_rate < 1 ? [60 * bucket.fill_rate, "a minute"] : [bucket.fill_rate, "a second"];
  const parts = [`${+steady[0].toFixed(1)}${unit === "tokens" ? " tokens" : ""} ${steady[1]}`, `${bucket.capacity} at once`];
  return [...parts, ...(per.length ? [`for each ${per.join(" and ")}`] : [])].join(", ");
}

function showRoutes(info, { routes }) {
  const listeners = info.listeners.map((listener) => `${listener.name} on ${listener.address}`).join(", ");
  say(byId("exposed-lead"), `Listening: ${listeners}. The first route that takes a request serves it.`);
  list(
    byId("routes"),
    routes,
    (route) => route.name,
    () => {
      const cells = Array.from({ length: 6 }, () => node("td"));
      return { element: node("tr", {}, ...cells), cells };
    },
    ({ cells }, route) => {
      say(cells[0], route.name);
      say(cells[1], conditions(route.match));
      say(cells[2], destinations(route.destinations));
      say(cells[3], route.limits.map(rate).join("; ") || "no limit");
      say(cells[4], times(route.timeouts));
      say(cells[5], route.retry.attempts ? `up to ${plural(route.retry.attempts, "time")}` : "never");
    },
  );
}

// --- who gets it? ------------------------------------------------------------------------------

const STATE_COLOURS = { ready: "good", drain: "wait", maint: "bad" };

function endpointRow(endpoint) {
  const row = {
    state: node("span"),
    health: node("span"),
    inFlight: node("td", { class: "number" }),
    engine: node("td", { class: "number" }),
    kv: meter(),
    chart: trail(`requests in flight at ${endpoint.address}, last minute`),
    weight: node("td", { class: "number" }),
    drain: node("button", { type: "button", onclick: attempt(() => setEndpoint(endpoint.cluster, endpoint.address, "drain")) }, "drain"),
    ready: node("button", { type: "button", onclick: attempt(() => setEndpoint(endpoint.cluster, endpoint.address, "ready")) }, "ready"),
  };
  row.element = node(
    "tr",
    { "data-endpoint": endpoint.id },
    node("td", {}, node("code", {}, endpoint.address)),
    node("td", {}, row.state),
    node("td", {}, row.health),
    row.inFlight,
    node("td", {}, row.chart.element),
    row.engine,
    node("td", {}, row.kv.element),
    row.weight,
    node("td", { class: "actions" }, row.drain, " ", row.ready),
  );
  return row;
}

function showHealth(element, endpoint) {
  const outlier = endpoint.outlier;
  element.title = outlier?.ejected ? `by ${outlier.detector}, for the ${outlier.ejections}. time` : "";
  if (outlier?.ejected) badge(element, `ejected for ${duration(outlier.returns_in)}`, "bad");
  else if (endpoint.pushed_back_for) badge(element, `full for ${duration(endpoint.pushed_back_for)}`, "wait");
  else if (endpoint.healthy === null) badge(element, "unchecked");
  else badge(element, endpoint.healthy ? "healthy" : "unhealthy", endpoint.healthy ? "good" : "bad");
}

function updateEndpoint(row, endpoint) {
  const override = endpoint.override?.state;
  const until = endpoint.override?.expires_in;
  badge(row.state, endpoint.state, STATE_COLOURS[endpoint.state]);
  row.state.title = override ? `set by an operator${until === null ? "" : `, for another ${duration(until)}`}` : "as configured";
  showHealth(row.health, endpoint);
  say(row.inFlight, String(endpoint.in_flight));
  extend(row.chart, endpoint.in_flight);
  const load = endpoint.load?.fresh ? endpoint.load : null;
  say(row.engine, load ? `${load.running} / ${load.waiting}` : "unknown");
  row.engine.classList.toggle("quiet", !load);
  const usage = load?.kv_usage;
  setMeter(row.kv, usage ?? 0, usage === null || usage === undefined ? "–" : `${(100 * usage).toFixed(usage < 0.1 ? 1 : 0)}%`);
  say(row.weight, String(endpoint.weight));
  row.drain.disabled = endpoint.state !== "ready";
  row.ready.disabled = endpoint.state === "ready";
}

const COLUMNS = ["Endpoint", "state", "health", "in flight", "last minute", "running / waiting", "KV cache", "weight", ""];
const NUMBERS = new Set(["in flight", "running / waiting", "weight"]);

function clusterBlock(cluster) {
  const models = node("span", { class: "quiet" });
  const count = node("span");
  const rows = node("tbody");
  const head = COLUMNS.map((name) => node("th", { class: NUMBERS.has(name) ? "number" : null }, name));
  const element = node(
    "div",
    { class: "cluster" },
    node("div", {}, node("h3", {}, cluster.name), count, models),
    node("table", {}, node("thead", {}, node("tr", {}, ...head)), rows),
  );
  return { element, models, count, rows };
}

function showClusters(clusters) {
  list(byId("clusters"), clusters, (cluster) => cluster.name, clusterBlock, (block, cluster) => {
    const all = cluster.endpoints.length;
    badge(block.count, `${cluster.usable} of ${all} usable`, cluster.usable === all ? "good" : cluster.usable ? "wait" : "bad");
    const waiting = cluster.queued ? `, ${cluster.queued} waiting` : "";
    say(block.models, `${cluster.models.join(", ") || "models as its engines say"} · ${cluster.engine} · ${cluster.in_flight} in flight${waiting}`);
    list(block.rows, cluster.endpoints, (endpoint) => endpoint.id, endpointRow, updateEndpoint);
  });
}

// --- by which rule? ----------------------------------------------------------------------------

const TELLS_NOTHING = new Set(["type"]);

function rule({ name, balancer, circuit_breaker: breaker }) {
  const settings = Object.entries(balancer).filter(([key]) => !TELLS_NOTHING.has(key)).map(([key, value]) => `${key} ${value}`);
  return `${name}: ${[balancer.type, ...settings].join(", ")}; at most ${breaker.max_connections} in flight, ${breaker.max_pending} waiting.`;
}

const WAITS = new Set(["queued", "connecting", "waiting_first_byte"]);

function showRequests({ requests }, clusters) {
  say(byId("rules"), clusters.map(rule).join(" "));
  byId("no-requests").hidden = requests.length > 0;
  const shown = [...requests].sort((a, b) => b.age - a.age).slice(0, 20);
  list(
    byId("requests"),
    shown,
    (request) => `${request.worker}-${request.serial}`,
    (request) => {
      const cells = Array.from({ length: 5 }, () => node("td"));
      const state = node("span");
      cells[3].className = cells[4].className = "number";
      const end = attempt(() => cancelRequest(`${request.worker}-${request.serial}`));
      const button = node("td", { class: "actions" }, node("button", { type: "button", onclick: end }, "end"));
      return { element: node("tr", {}, cells[0], cells[1], cells[2], node("td", {}, state), cells[3], cells[4], button), cells, state };
    },
    ({ cells, state }, request) => {
      say(cells[0], request.path);
      say(cells[1], request.model ?? "–");
      say(cells[2], request.endpoint ?? "–");
      badge(state, request.state.replaceAll("_", " "), WAITS.has(request.state) ? "wait" : "warm");
      say(cells[3], String(request.attempt));
      say(cells[4], duration(request.age));
    },
  );
}

// --- are the servers healthy? ------------------------------------------------------------------

function outcomes(counts) {
  const parts = Object.entries(counts).filter(([, count]) => count > 0).map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`);
  return parts.join(", ") || "none yet";
}

function showHealthTable(clusters) {
  const endpoints = clusters.flatMap((cluster) => cluster.endpoints);
  const bad = endpoints.filter((endpoint) => endpoint.healthy === false);
  say(byId("healthy-lead"), bad.length ? `${plural(bad.length, "endpoint")} failing: ${bad.map((e) => e.address).join(", ")}.` : `All ${endpoints.length} pass their checks.`);
  list(
    byId("health"),
    endpoints,
    (endpoint) => endpoint.id,
    (endpoint) => {
      const health = node("span");
      const cells = Array.from({ length: 4 }, (_, i) => node("td", { class: i > 1 ? "number" : null }));
      return { element: node("tr", {}, node("td", {}, node("code", {}, endpoint.id)), node("td", {}, health), ...cells), health, cells };
    },
    ({ health, cells }, endpoint) => {
      showHealth(health, endpoint);
      say(cells[0], outcomes(endpoint.outcomes));
      say(cells[1], endpoint.probe_error ?? endpoint.scrape_error ?? "–");
      say(cells[2], endpoint.probed_ago === null ? "never" : `${duration(endpoint.probed_ago)} ago`);
      say(cells[3], endpoint.load ? `${duration(endpoint.load.age)} ago` : "never");
    },
  );
}

// --- are the workers in sync? ------------------------------------------------------------------

function showWorkers(info) {
  const behind = info.workers.filter((worker) => worker.generation !== info.generation);
  say(byId("sync-lead"), behind.length ? `${plural(behind.length, "worker")} not yet at generation ${info.generation}.` : `All serve generation ${info.generation}, read from ${info.source}.`);
  list(
    byId("workers"),
    info.workers,
    (worker) => worker.worker,
    (worker) => {
      const state = node("span");
      const cells = Array.from({ length: 4 }, (_, i) => node("td", { class: i ? "number" : null }));
      return { element: node("tr", {}, node("td", {}, String(worker.worker)), cells[0], node("td", {}, state), ...cells.slice(1)), state, cells };
    },
    ({ state, cells }, worker) => {
      say(cells[0], worker.pid === null ? "–" : String(worker.pid));
      badge(state, worker.state, worker.state === "serving" ? "good" : "wait");
      say(cells[1], String(worker.generation));
      say(cells[2], duration(worker.uptime));
      say(cells[3], String(worker.restarts));
    },
  );
}

// --- once a second -----------------------------------------------------------------------------

async function refresh() {
  const [{ clusters }, info, requests] = await Promise.all([read("/clusters"), read("/server_info"), read("/requests")]);
  if (info.generation !== generation) {
    showRoutes(info, await read("/routes"));
    generation = info.generation;
  }
  showFacts(info, clusters);
  showClusters(clusters);
  showRequests(requests, clusters);
  showHealthTable(clusters);
  showWorkers(info);
}

async function poll() {
  try {
    await refresh();
  } catch (error) {
    if (!(error instanceof ApiError)) console.error(error);
    badge(byId("link"), error.status === 401 ? "token needed" : "no answer", "bad");
    if (error.status === 401 && !askForToken()) return;
  }
  setTimeout(poll, document.hidden ? 5 * EVERY : EVERY);
}

startChat();
startEvents();
poll();
refreshModels();
setInterval(refreshModels, 10 * EVERY);
