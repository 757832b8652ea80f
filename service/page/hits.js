// What is shown of a hit, as plain values: the DOM is made from them elsewhere.

import { codeLines, context, excerpt } from "./marks.js";

/** So many lines of code stand in a list of hits; the rest on demand. */
export const LINES = 14;

/**
 * @typedef {{id: string, title: string, titleLanguage: string, language: string, languageName: string, code: boolean,
 *   place: string, score: string, captions: {text: string, language: string}[], foundIsWanted: boolean, picture: boolean, onlyPicture: boolean}} View
 *   captions: of a document without text, those beside the one that was found, in the most wanted of its languages;
 *   foundIsWanted: whether the caption that was found is in that language
 */

/**
 * @param {object} hit a hit of the search response, with the members title, text, metadata and captions
 * @param {string[]} languages those that captions are wanted in, the most wanted first
 * @returns {View}
 */
export function view(hit, languages = []) {
  const { document, unit } = hit;
  const code = document.modality === "code";
  const language = tag(unit.language) || tag(document.language);
  const others = captions(document, unit, languages);
  return {
    id: hit.id,
    title: document.title || document.metadata?.symbol || hit.id,
    titleLanguage: tag(document.language),
    language,
    languageName: languageName(language),
    code,
    place: code ? place(document.metadata ?? {}) : "",
    score: number(hit.score),
    captions: others,
    foundIsWanted: unit.kind === "caption" && (others.length === 0 || others[0].language === tag(unit.language)),
    picture: document.has_picture,
    onlyPicture: document.has_picture && !document.text,
  };
}

/** The text that was found, `steps` steps of its context around it; null where there is none, as for a picture. */
export function found(hit, steps = 0) {
  const { document, unit, highlights } = hit;
  const text = unit.kind === "caption" ? (unit.caption ?? "") : (document.text ?? "");
  if (!text) return null;
  const span = unit.kind === "image" ? { start: 0, end: 0 } : unit;
  return steps ? context(text, span, highlights, steps) : excerpt(text, span, highlights);
}

/** The lines of code that were found, and the number of the first. */
export function foundCode(hit, limit) {
  const { document, unit, highlights } = hit;
  const layers = { marks: highlights, kinds: document.syntax ?? [] };
  const made = codeLines(document.text ?? "", unit, layers, limit);
  const start = document.metadata?.start_line;
  return { ...made, first: (Number.isInteger(start) ? start : 1) + made.before };
}

/** 4.4, 0.0325, 12 */
export function number(value) {
  return String(Number(value.toPrecision(3)));
}

/**
 * The languages to show captions in, the most wanted first: that of the query, where it was chosen; else the one in which
 * most captions were found, which it is most likely; then the reader's.
 */
export function captionLanguages(hits, chosen, readers) {
  const counts = new Map();
  for (const { unit } of hits) {
    if (unit.kind === "caption" && tag(unit.language)) counts.set(unit.language, (counts.get(unit.language) ?? 0) + 1);
  }
  const [most] = [...counts].sort(([, one], [, other]) => other - one).map(([language]) => language);
  return [chosen, most, ...readers].filter(Boolean);
}

/** Captions of a document without text, in the first wanted language that it has; but for the one already shown. */
function captions(document, unit, wanted) {
  if (document.text) return [];
  const all = document.captions ?? {};
  const language = wanted.map((want) => matching(all, want)).find(Boolean) ?? Object.keys(all)[0];
  const shown = (all[language] ?? []).filter((caption) => caption !== unit.caption);
  return shown.map((text) => ({ text, language: tag(language) }));
}

/** The language among these that a wanted one means: `de` for `de-AT`, `zh-Hant` for `zh`. */
function matching(all, wanted) {
  const base = wanted.split("-")[0];
  return wanted in all ? wanted : Object.keys(all).find((language) => language.split("-")[0] === base);
}

function place(metadata) {
  if (!metadata.path) return "";
  return metadata.start_line ? `${metadata.path}:${metadata.start_line}` : metadata.path;
}

/** A language for the `lang` attribute; `und` says nothing. */
function tag(language) {
  return language && language !== "und" ? language : "";
}

const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "none" });

/** `German`; the tag itself where it has no name. */
export function languageName(language) {
  return language ? (names.of(language) ?? language) : "";
}

/** What is announced after a search: `2 hits`. */
export function summary(count, more, truncated) {
  const hits = count === 0 ? "No hits" : count === 1 ? "1 hit" : `${more ? "The first " : ""}${count} hits`;
  return truncated ? `${hits}. The query was cut at the encoder's maximum.` : hits;
}

/** `4.4 ms: encode 3.1, search 0.6` */
export function timings({ total, ...stages }) {
  const each = Object.entries(stages).map(([stage, ms]) => `${stage} ${ms.toFixed(1)}`);
  return `${total.toFixed(1)} ms: ${each.join(", ")}`;
}
