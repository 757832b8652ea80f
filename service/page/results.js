// The list of hits, and what is said above and below it.

import * as api from "./api.js";
import { card } from "./cards.js";
import { button, element } from "./dom.js";
import { examples, facts } from "./examples.js";
import { summary, timings, view } from "./hits.js";

const EXAMPLES = 5;

const list = document.querySelector("#hits");
const count = document.querySelector("#count");
const time = document.querySelector("#timings");
const more = document.querySelector("#more");
const start = document.querySelector("#start");

let addresses = [];

/** Take everything away that an earlier search left. */
export function clear() {
  for (const address of addresses) URL.revokeObjectURL(address);
  addresses = [];
  list.replaceChildren();
  start.hidden = true;
  more.hidden = true;
  say("");
}

/** Say something where the number of hits stands; it is read out. */
export function say(text) {
  count.textContent = text;
  time.textContent = "";
}

/** How many hits are there. */
export function shown() {
  return list.children.length;
}

/** Whether an answer is on its way. The hits of the search before stay until it is there. */
export function busy(yes) {
  list.setAttribute("aria-busy", String(yes));
  if (yes && shown() === 0) say("Searching …");
}

/**
 * Show an answer: its hits after those that are there.
 * @param {object} response of the search
 * @param {{hasMore: boolean, languages: string[], signal: AbortSignal, like: Function, explain: Function}} about
 *   signal: ends the fetching of pictures
 */
export function show(response, { hasMore, languages, signal, like, explain }) {
  const grid = response.hits.length > 0 && response.hits.every((hit) => view(hit).onlyPicture);
  if (list.children.length === 0) list.classList.toggle("grid", grid);
  const thumbnail = (id, size) => picture(response.collection, id, size, signal);
  const around = { collection: response.collection, mode: response.mode, languages, grid: list.classList.contains("grid"), like, explain, thumbnail };
  const cards = response.hits.map((hit) => card(hit, around));
  list.append(...cards);
  more.hidden = !hasMore;
  count.textContent = summary(list.children.length, hasMore, response.truncated);
  time.textContent = timings(response.timings_ms);
  return cards;
}

/** The address of a thumbnail; null where there is none, or where nobody waits for it any more. */
async function picture(collection, id, size, signal) {
  try {
    const blob = await api.thumbnail(collection, id, size, signal);
    if (signal.aborted) return null;
    const address = URL.createObjectURL(blob);
    addresses.push(address);
    return address;
  } catch (error) {
    if (signal.aborted || error instanceof api.Problem) return null;
    throw error;
  }
}

/** Say that nothing was found, with what might help. `helps`: [label, what it does] */
export function showNothing(text, helps) {
  const what = text ? ["Nothing was found for “", element("bdi", {}, text), "”."] : ["Nothing was found."];
  const advice = helps.length ? element("div", { class: "tries" }, ...helps.map(([label, action]) => button(label, action))) : "Try other words, or another collection.";
  start.replaceChildren(element("h2", {}, ...what), element("div", {}, advice));
  start.hidden = false;
}

/**
 * What is seen before anything is searched for: what the collection holds, and words of its own documents to try.
 * @param {(text: string) => void} tryIt
 */
export async function showStart(name, info, signal, tryIt) {
  const tries = element("div", { class: "tries" });
  start.replaceChildren(element("h2", {}, `Search ${name}`), element("p", {}, facts(info)), tries);
  start.hidden = false;
  const documents = info.documents ? await api.firstDocuments(name, EXAMPLES, signal) : [];
  if (signal.aborted) return;
  const made = examples(documents).map(({ text, language }) => button(element("bdi", { lang: language }, text), () => tryIt(text)));
  if (made.length) tries.before(element("p", { class: "lead" }, "Words from its documents to try:"));
  tries.append(...made);
}
