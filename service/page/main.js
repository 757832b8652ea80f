// The thin layer over the DOM: events in, elements out. Text is only ever set as text.

import * as api from "./api.js";
import { summary, view } from "./hits.js";
import { fromAddress, toAddress } from "./state.js";

const FIELDS = ["title", "text", "metadata", "captions"];
const KEY = "polyseek-key";

const form = document.querySelector("#search");
const keyForm = document.querySelector("#key");
const choice = form.elements.collection;
const count = document.querySelector("#count");
const alert = document.querySelector("#alert");
const list = document.querySelector("#hits");

let running = new AbortController();
let pictures = [];

/** An element with attributes (empty ones left out) and children. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

function state() {
  const { collection, q, mode, k } = form.elements;
  return { collection: collection.value, text: q.value.trim(), mode: mode.value, k: k.valueAsNumber };
}

function show(shown) {
  const { collection, q, mode, k } = form.elements;
  if (shown.collection) {
    offer([shown.collection]);
    collection.value = shown.collection;
  }
  q.value = shown.text;
  mode.value = shown.mode;
  k.value = shown.k;
}

/** Add names to the choice of collections, each once. */
function offer(names) {
  const known = new Set(Array.from(choice.options, ({ value }) => value));
  form.elements.go.disabled = known.size + names.length === 0;
  choice.append(...names.filter((name) => !known.has(name)).map((name) => element("option", { value: name }, name)));
}

function clear() {
  running.abort();
  running = new AbortController();
  for (const url of pictures) URL.revokeObjectURL(url);
  pictures = [];
  list.replaceChildren();
  alert.replaceChildren();
  count.textContent = "";
}

async function run({ collection, text, mode, k }) {
  clear();
  document.title = text ? `${text} – Polyseek` : "Polyseek";
  if (!text || !collection) return;
  const { signal } = running;
  count.textContent = "Searching …";
  try {
    const request = { text, k, fields: FIELDS, mode: mode === "auto" ? null : mode };
    const response = await api.search(collection, request, signal);
    count.textContent = summary(response);
    list.append(...response.hits.map((hit) => hitElement(hit, response, signal)));
  } catch (error) {
    fail(error, signal);
  }
}

function fail(error, signal) {
  if (signal.aborted) return; // a newer search has begun
  count.textContent = "";
  keyForm.hidden = error.status !== 401;
  const hint = error instanceof api.Problem ? error.hint : "is the service still running?";
  alert.replaceChildren(element("p", {}, error.message), ...(hint ? [element("p", { class: "hint" }, hint)] : []));
}

function hitElement(hit, response, signal) {
  const shown = view(hit, response.mode);
  const title = element("h2", { lang: shown.titleLanguage, dir: shown.code ? "ltr" : "auto" }, shown.title);
  const about = element("p", { class: "about" }, [shown.where, shown.language, ...shown.scores].filter(Boolean).join(" · "));
  const body = element("div", { class: "body" }, title, about, ...texts(shown));
  const item = element("li", {}, body);
  if (shown.picture) addPicture(item, hit, response.collection, signal);
  return item;
}

/** The excerpt with its marks, and the captions. */
function texts({ excerpt, captions, code, language }) {
  const direction = { lang: code ? "" : language, dir: code ? "ltr" : "auto" };
  const shown = [];
  if (excerpt.pieces.length) {
    const marked = excerpt.pieces.map(({ text, marked }) => (marked ? element("mark", {}, text) : text));
    const whole = [excerpt.cutBefore ? "… " : "", ...marked, excerpt.cutAfter ? " …" : ""];
    shown.push(element(code ? "pre" : "p", { class: "text", ...direction }, ...whole));
  }
  if (captions.length) {
    const items = captions.map((caption) => element("li", direction, caption));
    shown.push(element("ul", { class: "captions" }, ...items));
  }
  return shown;
}

async function addPicture(item, { id }, collection, signal) {
  try {
    const url = URL.createObjectURL(await api.thumbnail(collection, id, signal));
    pictures.push(url);
    item.prepend(element("img", { src: url, alt: `Picture of ${id}` }));
  } catch (error) {
    if (!signal.aborted && error.status !== 404) fail(error, signal);
  }
}

/** Ask for the collections, then search for what the address says, unless a search has begun meanwhile. */
async function start() {
  const { signal } = running;
  try {
    const names = await api.collections();
    offer(names);
    keyForm.hidden = true;
    if (names.length === 0) throw new api.Problem(EMPTY);
    if (!signal.aborted) await run({ ...fromAddress(location.search), collection: choice.value });
  } catch (error) {
    fail(error, signal);
  }
}

const EMPTY = { detail: "There is no collection yet.", hint: "Make one: polyseek index build NAME SOURCE", status: 404 };

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = state();
  const address = toAddress(wanted);
  if (address !== location.search) history.pushState(null, "", address);
  run(wanted);
});

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, keyForm.elements.key.value);
  api.useKey(keyForm.elements.key.value);
  alert.replaceChildren();
  start();
});

window.addEventListener("popstate", () => {
  show(fromAddress(location.search));
  run(state());
});

// Before anything is awaited, so that nothing that is typed meanwhile is overwritten.
show(fromAddress(location.search));
api.useKey(sessionStorage.getItem(KEY) ?? "");
start();
