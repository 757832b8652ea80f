// The operator's view: asks for the metrics and the readiness every few seconds and shows what follows from them.

import * as api from "./api.js";
import { element } from "./dom.js";
import { WINDOW, collections, kept, plots, span } from "./figures.js";
import { parse, total } from "./metrics.js";
import { HEIGHT, WIDTH, ceiling, largest, path, words } from "./plots.js";

const KEY = "polyseek-key";
const INTERVAL = 3_000;
const SVG = "http://www.w3.org/2000/svg";

const find = (selector) => document.querySelector(selector);
const keyForm = find("#key");
const pauseButton = find("#pause");
const opened = Date.now();

let samples = [];
let paused = false;
let timer = 0;
let turn = 0;

/** Set what a live region says, but only where it changed: it is read out each time. */
function say(region, ...children) {
  const made = element("div", {}, ...children);
  if (region.innerHTML !== made.innerHTML) region.replaceChildren(...made.childNodes);
}

async function readiness() {
  try {
    return await (await api.call("readyz")).json();
  } catch (error) {
    if (error.status === 503) return { status: "not ready", detail: error.message, hint: error.hint };
    return { status: "unknown", detail: samples.length ? "What is below was measured before." : "Nothing was measured yet." };
  }
}

/** One look at the service; the next one comes when this one has ended, however it did. */
async function look() {
  clearTimeout(timer);
  turn += 1;
  const mine = turn;
  try {
    const answer = await readiness();
    showReadiness(answer);
    const text = await (await api.call("metrics")).text();
    if (mine !== turn) return; // a newer look has begun
    samples = kept(samples, { time: Date.now(), reading: parse(text) });
    keyForm.hidden = true;
    say(find("#alert"));
    show();
  } catch (error) {
    fail(error);
  }
  if (mine === turn && !paused) timer = setTimeout(look, INTERVAL);
}

function fail(error) {
  keyForm.hidden = error.status !== 401;
  const hint = error.hint ? element("p", { class: "hint" }, error.hint) : "";
  say(find("#alert"), element("div", {}, element("p", {}, error.message), hint));
}

function show() {
  const { reading } = samples.at(-1);
  const up = (Date.now() / 1000) - total(reading, "process_start_time_seconds");
  find("#since").textContent =
    `Measured since this page was opened ${span((Date.now() - opened) / 1000)} ago, each value over the ` +
    `${WINDOW / 1000} seconds before it. The service has run for ${span(up)}.`;
  showCollections(collections(reading));
  showPlots();
}

const TITLES = { ready: "Ready", degraded: "Degraded", "not ready": "Not ready", unknown: "No answer" };

function showReadiness({ status, collections: answering = [], detail, hint = "", degraded, failing = {} }) {
  const region = find("#ready");
  region.dataset.state = status;
  const said = detail ?? `${answering.length} ${answering.length === 1 ? "collection answers" : "collections answer"}.`;
  const wrong = { ...degraded, ...Object.fromEntries(Object.entries(failing).map(([name, { detail }]) => [name, detail])) };
  const reasons = Object.entries(wrong).map(([name, reason]) => element("li", {}, element("b", {}, name), `: ${reason}`));
  const list = reasons.length ? [element("ul", {}, ...reasons)] : [];
  say(region, element("p", {}, element("strong", {}, TITLES[status] ?? status), `${said} ${hint}`), ...list);
}

function showCollections(shown) {
  find("#collections").hidden = shown.length === 0;
  if (!shown.length) return;
  const names = ["Collection", "State", ...Object.keys(shown[0].figures)];
  const head = element("tr", { role: "row" }, ...names.map((name) => element("th", { role: "columnheader", scope: "col" }, name)));
  const body = shown.map(row);
  const table = element(
    "table", { role: "table", "aria-labelledby": "collections-heading" },
    element("thead", { role: "rowgroup" }, head), element("tbody", { role: "rowgroup" }, ...body),
  );
  say(find("#collections .table"), table);
}

// The roles are said, since a table that is laid out as a grid on a phone loses its own.
function row({ name, state, figures }) {
  const cells = Object.entries(figures).map(([label, figure]) => element("td", { role: "cell", "data-label": label }, figure));
  return element(
    "tr", { role: "row" },
    element("th", { role: "rowheader", scope: "row", dir: "auto" }, name),
    element("td", { role: "cell", "data-label": "State" }, element("span", { class: "state", "data-state": state }, state)),
    ...cells,
  );
}

function showPlots() {
  const groups = plots(samples).map(({ heading, plots: members }) =>
    element("section", {}, element("h2", {}, heading), element("div", { class: "cards" }, ...members.map(card))),
  );
  find("#plots").replaceChildren(...groups);
}

function card({ name, meaning, format, lines }) {
  const single = lines.length === 1;
  const values = lines.map((line, i) => {
    const value = line.values.at(-1);
    const label = single ? [] : [element("span", { class: `key line-${i}` }, line.name)];
    return element("li", {}, ...label, element("strong", {}, value === null ? "–" : format(value)));
  });
  const known = lines.some((line) => line.values.some((value) => value !== null));
  const top = ceiling(largest(lines));
  return element(
    "figure", { class: "card" },
    element("figcaption", {}, element("h3", {}, name), element("p", {}, meaning), element("ul", {}, ...values)),
    element("div", { class: "plot" }, element("span", { class: "top", "aria-hidden": "true" }, known ? format(top) : "no data yet"), drawing(lines, top, format)),
    element("p", { class: "times", "aria-hidden": "true" }, element("span", {}, age()), element("span", {}, "now")),
  );
}

/** How long ago the left end of every plot is. */
function age() {
  const seconds = (samples.at(-1).time - samples[0].time) / 1000;
  return seconds >= 1 ? `${span(seconds)} ago` : "";
}

function drawing(lines, top, format) {
  const times = samples.map(({ time }) => time);
  const scale = { from: times[0], to: times.at(-1), top };
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words(lines, format) });
  svg.append(...lines.map(({ values }, i) => shape("path", { class: `line-${i}`, d: path(times, values, scale) })));
  return svg;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, keyForm.elements.key.value);
  api.useKey(keyForm.elements.key.value);
  look();
});

pauseButton.addEventListener("click", () => {
  paused = !paused;
  pauseButton.setAttribute("aria-pressed", String(paused));
  if (paused) clearTimeout(timer);
  else look();
});

api.useKey(sessionStorage.getItem(KEY) ?? "");
look();
