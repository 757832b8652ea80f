import assert from "node:assert/strict";
import { test } from "node:test";

import { summary, view } from "../../service/page/hits.js";
import { excerpt, pieces } from "../../service/page/marks.js";
import { fromAddress, toAddress } from "../../service/page/state.js";

const marked = (made) => made.filter((piece) => piece.marked).map((piece) => piece.text);
const joined = (made) => made.map((piece) => piece.text).join("");

test("marks count code points, so an emoji before them does not shift them", () => {
  const text = "🦊🦊 fox den";
  assert.deepEqual(marked(pieces(Array.from(text), [[3, 6]])), ["fox"]);
});

test("pieces put together are the text, whatever the marks", () => {
  const points = Array.from("ab😀cdef");
  for (const marks of [[], [[0, 7]], [[0, 1], [1, 3]], [[2, 4], [3, 5]], [[5, 99]], [[7, 9]]]) {
    assert.equal(joined(pieces(points, marks)), "ab😀cdef");
  }
});

test("a mark that begins before the excerpt or ends after it is cut at its border", () => {
  assert.deepEqual(marked(pieces(Array.from("abcdef"), [[0, 3], [4, 6]], 2, 5)), ["c", "e"]);
});

test("an excerpt is the found unit and says what was left out", () => {
  const made = excerpt("one. two. three.", { start: 5, end: 9 }, [[5, 8]]);
  assert.equal(joined(made.pieces), "two.");
  assert.deepEqual([made.cutBefore, made.cutAfter, marked(made.pieces)], [true, true, ["two"]]);
});

test("a long unit is cut to the limit around its first mark", () => {
  const text = "x".repeat(900) + "needle" + "y".repeat(900);
  const made = excerpt(text, { start: 0, end: text.length }, [[900, 906]], 100);
  assert.deepEqual(marked(made.pieces), ["needle"]);
  assert.equal(joined(made.pieces).length, 100);
});

test("a long unit is cut between words where it has some", () => {
  const text = "before ".repeat(90) + "needle " + "after ".repeat(90);
  const shown = joined(excerpt(text, { start: 0, end: text.length }, [[630, 636]], 101).pieces);
  assert.match(shown, /^(before )+needle (after )*after$/);
});

test("a long unit without a mark is shown from its beginning", () => {
  const made = excerpt("z".repeat(50), { start: 10, end: 50 }, [], 20);
  assert.deepEqual([joined(made.pieces).length, made.cutBefore, made.cutAfter], [20, true, true]);
});

test("a unit without offsets is the whole text", () => {
  assert.equal(joined(excerpt("all of it", { start: 0, end: 0 }, []).pieces), "all of it");
});

test("a state survives the way through the address", () => {
  const state = { collection: "docs", text: "wie öffne ich eine Datei? a&b=c #1", mode: "dense", k: 25 };
  assert.deepEqual(fromAddress(toAddress(state)), state);
});

test("an address with nonsense gives the defaults", () => {
  assert.deepEqual(fromAddress("?mode=psychic&k=-3"), { collection: "", text: "", mode: "auto", k: 10 });
  assert.equal(fromAddress("?k=1e9").k, 10);
});

const hit = (document, unit) => ({
  rank: 1,
  id: "a1",
  score: 0.03251,
  scores: { dense: 0.6134, lexical: null },
  document: { language: "de", modality: "text", has_picture: false, ...document },
  unit: { kind: "passage", language: "de", start: 0, end: 3, ...unit },
  highlights: [[0, 3]],
});

test("a hit shows what ordered it and the sides that found it", () => {
  const shown = view(hit({ title: "Titel", text: "Eis am Stiel" }), "hybrid");
  assert.deepEqual(shown.scores, ["hybrid 0.0325", "dense 0.613"]);
  assert.deepEqual([shown.title, shown.language, marked(shown.excerpt.pieces)], ["Titel", "de", ["Eis"]]);
});

test("a dense hit does not show its score twice", () => {
  assert.deepEqual(view(hit({ text: "Eis" }), "dense").scores, ["dense 0.0325"]);
});

test("code shows its place and its symbol", () => {
  const metadata = { path: "os.py", start_line: 12, symbol: "walk" };
  const shown = view(hit({ text: "def walk(): ...", modality: "code", metadata }), "hybrid");
  assert.deepEqual([shown.where, shown.title, shown.code], ["os.py:12", "walk", true]);
});

test("a document of captions shows the found caption marked and its sisters of that language", () => {
  const captions = { de: ["Hund", "Hündchen"], en: ["dog"] };
  const shown = view(hit({ text: "", captions }, { kind: "caption", caption: "Hündchen", end: 8 }), "hybrid");
  assert.equal(joined(shown.excerpt.pieces), "Hündchen");
  assert.deepEqual(shown.captions, ["Hund"]);
});

test("a picture without text shows captions of the first language when its own has none", () => {
  const shown = view(hit({ has_picture: true, captions: { en: ["dog"] } }, { kind: "image", language: "und", end: 0 }), "dense");
  assert.deepEqual([shown.captions, shown.picture, shown.language], [["dog"], true, "de"]);
});

test("the summary counts and tells of a cut query", () => {
  const response = (hits, truncated) => ({ hits, truncated, timings_ms: { total: 4.44 } });
  assert.equal(summary(response([], false)), "No hits in 4.4 ms.");
  assert.equal(summary(response([1], false)), "1 hit in 4.4 ms.");
  assert.match(summary(response([1, 2], true)), /^2 hits in 4\.4 ms\. The query was cut/);
});
