// What happens when: events in, searches out, the address in step with both.

import * as api from "./api.js";
import { filterChip, likeChip, listenForFilters, offerChoices, offerCollections, offerFields } from "./choices.js";
import { button, element } from "./dom.js";
import { captionLanguages } from "./hits.js";
import { listenForKeys } from "./keys.js";
import { allowPictures, listenForPictures, pictureChip, refusalOf } from "./picture.js";
import * as results from "./results.js";
import { fitted, fromAddress, nextK, STEP, toAddress, toRequest } from "./state.js";

const KEY = "polyseek-key";
// Milliseconds: longer than between two letters, shorter than one waits for.
const PAUSE = 120;

const find = (selector) => document.querySelector(selector);
const [form, filterForm, keyForm, alert, chips, choose, more] = ["#search", "#filter", "#key", "#alert", "#chips", "#choose", "#more"].map(find);
const { collection, q, mode, language } = form.elements;

let catalogue = new Map();
let state = fromAddress(location.search);
let picture = null;
// An address can't hold a picture: those of this tab's searches are kept for the back button.
const pictures = [];
// Titles of the documents that more were looked for of.
const titles = new Map();
let running = new AbortController();
let typing = 0;

const info = () => catalogue.get(state.collection);

// -- searching

/** Search for what the state says, or show what can be searched where it says nothing. */
async function run() {
  clearTimeout(typing);
  running.abort();
  running = new AbortController();
  const { signal } = running;
  document.title = state.text ? `${state.text} – Polyseek` : "Polyseek";
  if (!state.collection) return;
  results.busy(true);
  try {
    await (state.text || state.like.length || picture ? search(signal) : welcome(signal));
  } catch (error) {
    if (!signal.aborted) fail(error);
  } finally {
    if (!signal.aborted) results.busy(false);
  }
}

async function search(signal) {
  const response = await ask(toRequest(state), signal);
  clear();
  show(response, state.k, signal);
  if (response.hits.length === 0) results.showNothing(state.text, helps());
}

/** The answer of the service; nothing after it happens where a newer search has begun. */
async function ask(request, signal) {
  const waiting = (seconds) => results.say(`The service is busy; asking again in ${seconds} s …`);
  const response = await api.search(state.collection, request, picture, { signal, waiting });
  signal.throwIfAborted();
  return response;
}

/** Show the hits of an answer, of which `k` were asked for in all. */
function show(response, k, signal) {
  const hits = response.hits.slice(0, k - results.shown());
  const languages = captionLanguages(state.text ? hits : [], state.language, navigator.languages);
  const hasMore = hits.length < response.hits.length;
  return results.show({ ...response, hits }, { hasMore, languages, signal, like, explain: explainer(k, signal) });
}

/** A function that fetches the plan of this search, once. */
function explainer(k, signal) {
  const request = { ...toRequest({ ...state, k }), fields: [], highlight: false, explain: true };
  const [name, sought] = [state.collection, picture];
  let plan = null;
  return async () => {
    plan ??= api.search(name, request, sought, { signal });
    try {
      return (await plan).plan;
    } catch (error) {
      plan = null; // it is asked for again
      throw error;
    }
  };
}

/** Show more hits, and go to the first of the new ones. */
async function showMore() {
  const { signal } = running;
  const k = nextK(state.k);
  more.disabled = true;
  try {
    const response = await ask(toRequest({ ...state, k }, state.k), signal);
    state = { ...state, k };
    history.replaceState(history.state, "", toAddress(state));
    show(response, k, signal)[0]?.focus();
  } catch (error) {
    if (!signal.aborted) complain(error);
  } finally {
    more.disabled = false;
  }
}

async function welcome(signal) {
  const about = info();
  if (!about || about.problem) throw problemOf(state.collection);
  clear();
  await results.showStart(state.collection, about, signal, (text) => changeFromHits({ text }));
}

function problemOf(name) {
  const hint = `Those that there are: ${[...catalogue.keys()].join(", ")}.`;
  return new api.Problem(info()?.problem ?? { detail: `There is no collection ${name}.`, hint, status: 404 });
}

/** What might find something where nothing was found. */
function helps() {
  const may = [];
  if (state.filters.length) may.push(["Without the filters", () => changeFromHits({ filters: [] })]);
  if (state.mode === "lexical" && info()?.encoder) may.push(["By meaning too", () => changeFromHits({ mode: "auto" })]);
  if (state.language) may.push(["In any language", () => changeFromHits({ language: "" })]);
  return may;
}

// -- failing

function fail(error) {
  clear();
  complain(error);
}

/** Say what went wrong and what to do about it. */
function complain(error) {
  keyForm.hidden = error.status !== 401;
  const mayPass = !error.status || error.status === 429 || error.status >= 500;
  const again = mayPass && button("Try again", () => (catalogue.size ? run() : start()));
  const hint = error.hint && element("p", { class: "hint" }, error.hint);
  alert.replaceChildren(element("div", {}, element("p", {}, error.message), hint), again || "");
}

function clear() {
  alert.replaceChildren();
  results.clear();
}

// -- changing the state

/** As `change`, from a button that goes away with the hits. */
function changeFromHits(members, newPicture = picture) {
  change(members, newPicture);
  find("#hits").focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Search for something else, as an entry of its own in the history. */
function change(members, newPicture = picture) {
  state = { ...state, ...members, k: STEP };
  picture = newPicture;
  showState();
  remember("chosen");
  run();
}

/**
 * Put the state into the address. What is typed letter by letter is one entry of the history.
 * @param {"typed" | "entered" | "chosen"} how
 */
function remember(how) {
  if (picture && !pictures.includes(picture)) pictures.push(picture);
  const entry = { typed: how === "typed", picture: pictures.indexOf(picture) };
  const same = toAddress(state) === toAddress(fromAddress(location.search)) && entry.picture === (history.state?.picture ?? -1);
  const replaces = same || (how !== "chosen" && history.state?.typed);
  history[replaces ? "replaceState" : "pushState"](entry, "", toAddress(state));
}

/** Take the state from the address. */
function recall() {
  const place = history.state?.picture ?? -1;
  state = fromAddress(location.search);
  state.collection ||= catalogue.keys().next().value ?? "";
  picture = pictures[place] ?? null;
  showState();
  return place >= 0 && !picture;
}

function showState() {
  offerCollections(collection, catalogue, state.collection);
  if (q.value.trim() !== state.text) q.value = state.text;
  offerChoices({ mode, language }, info(), state);
  offerFields(filterForm, info());
  allowPictures(choose, find("#picture-reason"), info());
  showChips();
}

function showChips() {
  const drop = (members, newPicture) => {
    change(members, newPicture);
    (chips.querySelector("button") ?? find("#add-filter")).focus(); // the button that had the focus is gone
  };
  const without = (filter) => ({ filters: state.filters.filter((other) => other !== filter) });
  const filters = state.filters.map((filter) => filterChip(filter, () => drop(without(filter))));
  const liked = state.like.map((id) => titles.get(id) ?? id).join(", ");
  const likes = liked ? [likeChip(liked, () => drop({ like: [] }))] : [];
  const sought = picture ? [pictureChip(picture, () => drop({}, null))] : [];
  chips.replaceChildren(...sought, ...likes, ...filters);
}

function like(hit, title) {
  titles.set(hit.id, title);
  changeFromHits({ like: [hit.id], text: "", mode: "auto" }, null);
}

function takePicture(file) {
  const refusal = refusalOf(info());
  if (refusal) {
    complain(new api.Problem({ detail: refusal, hint: "Choose another collection, or search by text.", status: 400 }));
    return;
  }
  change({ like: [], ...(state.text ? {} : { mode: "auto" }) }, file);
}

function typed() {
  const text = q.value.trim();
  if (text === state.text) return false;
  state = { ...state, text, like: [], k: STEP };
  showChips();
  return true;
}

// -- events

more.addEventListener("click", showMore);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  typed();
  remember("entered");
  run();
});

q.addEventListener("input", (event) => {
  if (event.isComposing) return; // an input method hasn't decided yet
  if (!typed()) return;
  clearTimeout(typing);
  typing = setTimeout(() => {
    remember("typed");
    run();
  }, PAUSE);
});
q.addEventListener("compositionend", () => q.dispatchEvent(new InputEvent("input")));

collection.addEventListener("change", () => {
  const next = catalogue.get(collection.value);
  const fits = next && !next.problem;
  change({ ...(fits ? fitted(state, next) : state), collection: collection.value }, fits && refusalOf(next) ? null : picture);
});
mode.addEventListener("change", () => change({ mode: mode.value }));
language.addEventListener("change", () => change({ language: language.value }));
listenForFilters(filterForm, find("#add-filter"), (filter) => change({ filters: [...new Set([...state.filters, filter])] }));
listenForPictures({ choose, file: find("#file"), box: form.querySelector(".box") }, takePicture);
listenForKeys(q, find("#hits"));

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, keyForm.elements.key.value);
  api.useKey(keyForm.elements.key.value);
  start();
});

window.addEventListener("popstate", () => {
  recall();
  run();
});

/** Ask for the collections, then search for what the address says, or what was typed meanwhile. */
async function start() {
  try {
    catalogue = await api.collections();
    keyForm.hidden = true;
    if (catalogue.size === 0) throw new api.Problem({ detail: "There is no collection yet.", hint: "Make one: polyseek index build NAME SOURCE", status: 404 });
    state.collection ||= catalogue.keys().next().value;
    showState();
    await run();
  } catch (error) {
    fail(error);
  }
}

api.useKey(sessionStorage.getItem(KEY) ?? "");
const lost = recall();
await start();
if (lost) complain(new api.Problem({ detail: "The picture of this search is gone.", hint: "Choose it again.", status: 0 }));
