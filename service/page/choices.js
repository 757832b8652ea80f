// What narrows a search: the collection, the mode, the language, the filters.

import { button, element, icon } from "./dom.js";
import { describeFilter, parseFilter, UNIT_NAMES } from "./filters.js";
import { languageName } from "./hits.js";
import { MODES } from "./state.js";

const MODE_NAMES = { auto: "Automatic", hybrid: "Meaning and words", dense: "Meaning", lexical: "Words" };
const VALUES = { modality: ["text", "image", "code"], kind: ["passage", "caption", "image"] };

/** Offer the collections; `chosen` too where it isn't among them, so that its error is seen. */
export function offerCollections(select, catalogue, chosen) {
  const named = Array.from(catalogue, ([name, info]) => [name, info.problem ? `${name} (can't be opened)` : name]);
  const all = chosen && !catalogue.has(chosen) ? [...named, [chosen, chosen]] : named;
  select.replaceChildren(...all.map(([name, label]) => new Option(label, name)));
  select.value = chosen || (named[0]?.[0] ?? "");
}

/** Offer the modes and languages that this collection has. info: undefined for one that isn't known. */
export function offerChoices({ mode, language }, info, state) {
  const wordsOnly = info?.encoder === null;
  mode.replaceChildren(
    ...MODES.map((name) => element("option", { value: name, disabled: wordsOnly && ["hybrid", "dense"].includes(name) }, MODE_NAMES[name])),
  );
  mode.value = state.mode;
  const tags = new Set([...Object.keys(info?.languages ?? {}).filter((tag) => tag !== "und"), ...(state.language ? [state.language] : [])]);
  const named = [...tags].map((tag) => [tag, languageName(tag)]).sort(([, one], [, other]) => one.localeCompare(other));
  language.replaceChildren(...[["", "Any"], ...named].map(([tag, name]) => new Option(name, tag)));
  language.value = state.language;
}

/**
 * The form that adds a filter.
 * @param {HTMLFormElement} form
 * @param {HTMLButtonElement} opener
 * @param {(expression: string) => void} add
 */
export function listenForFilters(form, opener, add) {
  const { field, sign, value } = form.elements;
  const open = (wanted) => {
    form.hidden = !wanted;
    opener.setAttribute("aria-expanded", String(wanted));
    (wanted ? field : opener).focus();
  };
  opener.addEventListener("click", () => open(form.hidden));
  form.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
  field.addEventListener("change", () => fitField(form));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add(`${field.value}${sign.value}${value.value.trim()}`);
    value.value = "";
    open(false);
  });
}

/** Offer the names that a collection can be filtered by. */
export function offerFields(form, info) {
  form.info = info;
  const names = [...UNIT_NAMES, ...(info?.fields ?? []).filter((name) => parseFilter(`${name}=`)?.name === name)];
  form.elements.field.replaceChildren(...names.map((name) => new Option(name, name)));
  fitField(form);
}

/** What belongs to a part itself has no order and known values. */
function fitField(form) {
  const { field, sign } = form.elements;
  const ordered = !UNIT_NAMES.includes(field.value);
  for (const option of sign.options) option.disabled = !ordered && !["=", "!="].includes(option.value);
  if (sign.selectedOptions[0].disabled) sign.value = "=";
  const values = field.value === "language" ? Object.keys(form.info?.languages ?? {}) : (VALUES[field.value] ?? []);
  form.querySelector("datalist").replaceChildren(...values.map((value) => element("option", { value })));
}

/** A filter, with a button that takes it away. */
export function filterChip(expression, remove) {
  const label = describeFilter(expression);
  return element("li", { class: "chip" }, element("bdi", {}, label), button(icon("close"), remove, { "aria-label": `Remove the filter ${label}` }));
}

/** The documents that more are looked for of, with a button that takes them away. */
export function likeChip(title, remove) {
  return element("li", { class: "chip" }, "More like ", element("bdi", {}, title), button(icon("close"), remove, { "aria-label": "Search by text again" }));
}
