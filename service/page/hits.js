// What is shown of a hit, as plain values: the DOM is made from them elsewhere.

import { excerpt } from "./marks.js";

/**
 * @typedef {{title: string, titleLanguage: string, language: string, code: boolean, where: string, scores: string[],
 *   excerpt: ReturnType<typeof excerpt>, captions: string[], picture: boolean}} View
 */

/**
 * @param {object} hit a hit of the search response, with the members title, text, metadata and captions
 * @param {string} mode the response's mode, which names the score
 * @returns {View}
 */
export function view(hit, mode) {
  const { document, unit } = hit;
  const code = document.modality === "code";
  const shown = unit.kind === "caption" ? (unit.caption ?? "") : (document.text ?? "");
  return {
    title: document.title || document.metadata?.symbol || hit.id,
    titleLanguage: tag(document.language),
    language: tag(unit.language) || tag(document.language),
    code,
    where: code ? place(document.metadata ?? {}) : "",
    scores: scores(hit, mode),
    excerpt: excerpt(shown, unit.kind === "image" ? { start: 0, end: 0 } : unit, hit.highlights),
    captions: captions(document, unit),
    picture: document.has_picture,
  };
}

/** `hybrid 0.0325`, then each side that found it: `dense 0.610`. */
function scores(hit, mode) {
  const sides = Object.entries(hit.scores).filter(([side, score]) => score !== null && side !== mode);
  return [[mode, hit.score], ...sides].map(([name, score]) => `${name} ${number(score)}`);
}

function number(value) {
  return String(Number(value.toPrecision(3)));
}

/** Captions of a document without text: those in the language that was found, but for the one already shown. */
function captions(document, unit) {
  if (document.text) return [];
  const all = document.captions ?? {};
  const group = all[unit.language] ?? Object.values(all)[0] ?? [];
  return group.filter((caption) => caption !== unit.caption);
}

function place(metadata) {
  if (!metadata.path) return "";
  return metadata.start_line ? `${metadata.path}:${metadata.start_line}` : metadata.path;
}

/** A language for the `lang` attribute; `und` says nothing. */
function tag(language) {
  return language && language !== "und" ? language : "";
}

/** What is announced after a search: `2 hits in 4.4 ms`. */
export function summary(response) {
  const { hits, timings_ms: timings } = response;
  const count = hits.length === 0 ? "No hits" : hits.length === 1 ? "1 hit" : `${hits.length} hits`;
  const cut = response.truncated ? " The query was cut at the encoder's maximum." : "";
  return `${count} in ${timings.total.toFixed(1)} ms.${cut}`;
}
