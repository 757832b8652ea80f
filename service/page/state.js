// What the page shows lives in its address: a search can be linked to, and the back button works.

/** @typedef {{collection: string, text: string, mode: string, k: number}} State */

// `auto` leaves the mode to the service: hybrid where the collection has an encoder, else lexical.
export const MODES = ["auto", "hybrid", "dense", "lexical"];
const K = 10;
const MOST = 100;

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
    k: Number.isInteger(k) && k >= 1 && k <= MOST ? k : K,
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
  if (state.k !== K) parameters.set("k", String(state.k));
  const query = parameters.toString();
  return query ? `?${query}` : ".";
}
