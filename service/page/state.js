// What the page shows lives in its address: a search can be linked to, and the back button works.

import { parseFilter, toFilter } from "./filters.js";

/** @typedef {{collection: string, text: string, mode: string, language: string, filters: string[], like: string[],
 *   k: number}} State `filters` as the command line writes them; `k` hits are shown. A picture is in no address. */

// `auto` leaves the mode to the service: hybrid where there is a text and an encoder.
export const MODES = ["auto", "hybrid", "dense", "lexical"];
/** So many hits at first, and so many more each time. */
export const STEP = 10;
// So long are the lists that the service ranks.
const MOST = 200;
const FIELDS = ["title", "text", "metadata", "captions", "syntax"];

/**
 * The state that an address asks for; what it doesn't say, or says wrongly, takes its default.
 * @param {string} search the address from `?` on
 * @returns {State}
 */
export function fromAddress(search) {
  const parameters = new URLSearchParams(search);
  const mode = parameters.get("mode");
  const k = Number(parameters.get("k"));
  return {
    collection: parameters.get("collection") ?? "",
    text: parameters.get("q") ?? "",
    mode: MODES.includes(mode) ? mode : MODES[0],
    language: parameters.get("language") ?? "",
    filters: parameters.getAll("filter").filter(parseFilter),
    like: parameters.getAll("like"),
    k: Number.isInteger(k) && k >= 1 && k <= MOST ? k : STEP,
  };
}

/**
 * The address of a state, without what is default.
 * @param {State} state
 */
export function toAddress(state) {
  const parameters = new URLSearchParams();
  if (state.collection) parameters.set("collection", state.collection);
  if (state.text) parameters.set("q", state.text);
  if (state.mode !== MODES[0]) parameters.set("mode", state.mode);
  if (state.language) parameters.set("language", state.language);
  for (const filter of state.filters) parameters.append("filter", filter);
  for (const id of state.like) parameters.append("like", id);
  if (state.k !== STEP) parameters.set("k", String(state.k));
  const query = parameters.toString();
  return query ? `?${query}` : ".";
}

/**
 * The body of the search for a state: for the hits after the first `offset`, and for one more than are to be seen, so that
 * it is known whether there is one.
 * @param {State} state
 */
export function toRequest(state, offset = 0) {
  const { text, language, like, mode } = state;
  return {
    ...(like.length ? { like } : {}),
    ...(text && !like.length ? { text, ...(language ? { language } : {}) } : {}),
    ...(mode === MODES[0] ? {} : { mode }),
    ...(state.filters.length ? { filter: toFilter(state.filters) } : {}),
    k: Math.min(state.k + 1, MOST) - offset,
    offset,
    fields: FIELDS,
  };
}

/** How many hits are to be seen when one asks for more than `k`. */
export function nextK(k) {
  return Math.min(k + STEP, MOST);
}

/**
 * The state for another collection: without what only the one before could know.
 * @param {State} state
 * @param {{fields: string[], languages: Record<string, number>, encoder: string | null}} info of the new collection
 * @returns {State}
 */
export function fitted(state, info) {
  const known = ["language", "kind", "modality", ...info.fields];
  return {
    ...state,
    filters: state.filters.filter((filter) => known.includes(parseFilter(filter).name)),
    language: state.language in info.languages ? state.language : "",
    mode: info.encoder === null && state.mode !== "lexical" ? MODES[0] : state.mode,
    like: [],
    k: STEP,
  };
}
