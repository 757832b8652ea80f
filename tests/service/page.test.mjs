import assert from "node:assert/strict";
import { test } from "node:test";

import { patience } from "../../service/page/api.js";
import { examples, facts } from "../../service/page/examples.js";
import { ordering, parts, scope } from "../../service/page/explain.js";
import { describeFilter, parseFilter, toFilter } from "../../service/page/filters.js";
import { captionLanguages, found, foundCode, summary, timings, view } from "../../service/page/hits.js";
import { codeLines, context, excerpt, pieces } from "../../service/page/marks.js";
import { refusalOf } from "../../service/page/picture.js";
import { fitted, fromAddress, nextK, toAddress, toRequest } from "../../service/page/state.js";

const marked = (made) => made.filter((piece) => piece.marked).map((piece) => piece.text);
const joined = (made) => made.map((piece) => piece.text).join("");

test("marks count code points, so an emoji before them does not shift them", () => {
  const text = "🦊🦊 fox den";
  assert.deepEqual(marked(pieces(Array.from(text), { marks: [[3, 6]] })), ["fox"]);
});

test("pieces put together are the text, whatever lies on it", () => {
  const points = Array.from("ab😀cdef");
  const kinds = [[1, 3, "keyword"], [5, 6, "string"]];
  for (const marks of [[], [[0, 7]], [[0, 1], [1, 3]], [[2, 4], [4, 5]], [[5, 99]], [[7, 9]]]) {
    assert.equal(joined(pieces(points, { marks })), "ab😀cdef");
    assert.equal(joined(pieces(points, { marks, kinds })), "ab😀cdef");
  }
});

test("where a mark and a kind overlap, a piece has both", () => {
  const made = pieces(Array.from("abcdef"), { marks: [[1, 4]], kinds: [[2, 6, "string"]] });
  assert.deepEqual(made, [
    { text: "a", marked: false, kind: "" },
    { text: "b", marked: true, kind: "" },
    { text: "cd", marked: true, kind: "string" },
    { text: "ef", marked: false, kind: "string" },
  ]);
});

test("a mark that begins before the excerpt or ends after it is cut at its border", () => {
  assert.deepEqual(marked(pieces(Array.from("abcdef"), { marks: [[0, 3], [4, 6]] }, 2, 5)), ["c", "e"]);
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

test("the context of a unit grows with each step until it is the whole text", () => {
  const text = "one two three four five";
  const unit = { start: 8, end: 13 };
  const made = context(text, unit, [[8, 13]], 1, 5);
  assert.deepEqual(made.pieces.map(({ text, kind }) => [text, kind]), [["two ", "around"], ["three", ""], [" four", "around"]]);
  assert.deepEqual([made.cutBefore, made.cutAfter], [true, true]);
  const whole = context(text, unit, [[8, 13]], 3, 5);
  assert.deepEqual([joined(whole.pieces), whole.cutBefore, whole.cutAfter, marked(whole.pieces)], [text, false, false, ["three"]]);
});

test("lines of code are those of the unit, and a string over several lines is coloured on each", () => {
  const text = "skip\nx = '''a\n\nb'''\nrest\n";
  const made = codeLines(text, { start: 5, end: 19 }, { marks: [[5, 6]], kinds: [[9, 19, "string"]] });
  assert.deepEqual(made.lines.map((line) => line.map(({ text, kind }) => [text, kind])), [
    [["x", ""], [" = ", ""], ["'''a", "string"]],
    [],
    [["b'''", "string"]],
  ]);
  assert.deepEqual([made.before, made.after], [1, 2]);
  assert.equal(codeLines(text, { start: 0, end: 0 }, {}, 2).lines.length, 2);
});

const STATE = {
  collection: "docs",
  text: "wie öffne ich eine Datei? a&b=c #1",
  mode: "dense",
  language: "de",
  filters: ["year>=2020", "topic!=a=b"],
  like: [],
  k: 30,
};
const NONE = { collection: "", text: "", mode: "auto", language: "", filters: [], like: [], k: 10 };

test("a state survives the way through the address", () => {
  assert.deepEqual(fromAddress(toAddress(STATE)), STATE);
  assert.deepEqual(fromAddress(toAddress({ ...NONE, like: ["a/b#c", "d"] })), { ...NONE, like: ["a/b#c", "d"] });
});

test("an address with nonsense gives the defaults", () => {
  assert.deepEqual(fromAddress("?mode=psychic&k=-3&filter=nothing"), NONE);
  assert.equal(fromAddress("?k=1e9").k, 10);
});

test("a request has what the state says and asks for one hit more than is shown", () => {
  assert.deepEqual(toRequest(STATE), {
    text: STATE.text,
    language: "de",
    mode: "dense",
    filter: { and: [{ year: { gte: 2020 } }, { not: { topic: { in: ["a=b"] } } }] },
    k: 31,
    offset: 0,
    fields: ["title", "text", "metadata", "captions", "syntax"],
  });
  const { k, offset } = toRequest({ ...STATE, k: nextK(30) }, 30);
  assert.deepEqual([k, offset], [11, 30]);
});

test("a request never reaches beyond the lists that the service ranks", () => {
  assert.equal(nextK(195), 200);
  assert.deepEqual(toRequest({ ...NONE, text: "a", k: 200 }, 190).k, 10);
});

test("a request for more like a document has no text, which wouldn't go with it", () => {
  const request = toRequest({ ...STATE, like: ["a"] });
  assert.deepEqual([request.like, request.text, request.language], [["a"], undefined, undefined]);
});

test("another collection keeps what it can know", () => {
  const info = { fields: ["year"], languages: { en: 3 }, encoder: null };
  const made = fitted({ ...STATE, filters: ["year>=2020", "topic=a", "language=en"], like: ["x"] }, info);
  assert.deepEqual([made.filters, made.language, made.mode, made.like, made.text], [["year>=2020", "language=en"], "", "auto", [], STATE.text]);
});

test("a filter means what the command line takes it for", () => {
  const meaning = (text) => toFilter([text]);
  assert.deepEqual(meaning("year=2020"), { year: { in: [2020, "2020"] } });
  assert.deepEqual(meaning("topic=loops"), { topic: { in: ["loops"] } });
  assert.deepEqual(meaning("topic != loops"), { not: { topic: { in: ["loops"] } } });
  assert.deepEqual(meaning("done=true"), { done: { in: [true, "true"] } });
  assert.deepEqual(meaning("a.b<-1.5e3"), { "a.b": { lt: -1500 } });
  assert.deepEqual(meaning("language=zh"), { language: { eq: "zh" } });
  assert.deepEqual(meaning("modality!=code"), { modality: { ne: "code" } });
  assert.deepEqual(parseFilter("a>=b=c"), { name: "a", sign: ">=", value: "b=c" });
  for (const text of ["", "year", "=3", "two words=3"]) assert.equal(parseFilter(text), null);
});

test("a filter is shown as a person writes it", () => {
  assert.equal(describeFilter("year>=2020"), "year ≥ 2020");
  assert.equal(describeFilter("topic!=a"), "topic ≠ a");
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

test("a hit shows its title, its language and its score", () => {
  const made = hit({ title: "Titel", text: "Eis am Stiel" });
  const shown = view(made);
  assert.deepEqual([shown.title, shown.language, shown.languageName, shown.score], ["Titel", "de", "German", "0.0325"]);
  assert.deepEqual(marked(found(made).pieces), ["Eis"]);
});

test("code shows its place, its symbol, and its lines with their numbers in the file", () => {
  const metadata = { path: "os.py", start_line: 12, symbol: "walk" };
  const made = hit({ text: "@cache\ndef walk(): ...", modality: "code", metadata, syntax: [[7, 10, "keyword"]] }, { end: 22 });
  const shown = view(made);
  assert.deepEqual([shown.place, shown.title, shown.code], ["os.py:12", "walk", true]);
  const { lines, first, after } = foundCode(made, 14);
  assert.deepEqual([first, after, lines[1][0]], [12, 0, { text: "def", marked: false, kind: "keyword" }]);
});

test("a document of captions shows the found caption marked and its sisters of the wanted language", () => {
  const captions = { de: ["Hund", "Hündchen"], en: ["dog"] };
  const made = hit({ text: "", captions }, { kind: "caption", caption: "Hündchen", end: 8 });
  assert.equal(joined(found(made).pieces), "Hündchen");
  assert.deepEqual(view(made, ["de"]).captions, [{ text: "Hund", language: "de" }]);
  assert.equal(view(made, ["de"]).foundIsWanted, true);
  assert.deepEqual(view(made, ["en-GB"]).captions, [{ text: "dog", language: "en" }]);
  assert.equal(view(made, ["en-GB"]).foundIsWanted, false);
});

test("a picture without text shows captions of the first language when it has none of the wanted ones", () => {
  const made = hit({ has_picture: true, captions: { "zh-Hant": ["狗"], en: ["dog"] } }, { kind: "image", language: "und", end: 0 });
  assert.deepEqual(view(made, ["fr"]).captions, [{ text: "狗", language: "zh-Hant" }]);
  assert.deepEqual(view(made, ["zh"]).captions, [{ text: "狗", language: "zh-Hant" }]);
  assert.deepEqual([view(made).onlyPicture, view(made).language, found(made)], [true, "de", null]);
});

test("captions are wanted in the chosen language, else in the one most were found in, else in the reader's", () => {
  const hits = ["de", "ja", "ja", "und"].map((language) => hit({}, { kind: "caption", language }));
  assert.deepEqual(captionLanguages(hits, "fr", ["en-GB"]), ["fr", "ja", "en-GB"]);
  assert.deepEqual(captionLanguages([hit({})], "", ["en-GB"]), ["en-GB"]);
});

test("the summary counts, says whether there are more, and tells of a cut query", () => {
  assert.equal(summary(0, false, false), "No hits");
  assert.equal(summary(1, false, false), "1 hit");
  assert.equal(summary(10, true, false), "The first 10 hits");
  assert.match(summary(2, false, true), /^2 hits\. The query was cut/);
});

test("timings name each stage", () => {
  assert.equal(timings({ encode: 3.14, queue: 0, search: 0.62, total: 3.76 }), "3.8 ms: encode 3.1, queue 0.0, search 0.6");
});

const PLAN = {
  kind: "hnsw",
  recall: 0.97,
  rows: 1234,
  rank_constant: 60,
  candidates: [
    { side: "dense", tower: "text", weight: 0.2, documents: [{ rank: 1, id: "b", score: 0.9 }, { rank: 2, id: "a", score: 0.8 }] },
    { side: "lexical", tower: null, weight: 0.8, documents: [{ rank: 1, id: "b", score: 12 }] },
  ],
};

test("a hit's score is the sum of what each list adds, and nothing where a list lacks it", () => {
  const [dense, lexical] = parts(PLAN, "a");
  assert.deepEqual([dense.rank, dense.of, dense.score, dense.part], [2, 2, 0.8, 0.2 / 62]);
  assert.deepEqual([lexical.rank, lexical.score, lexical.part], [null, null, 0]);
});

test("the lists of two towers are told apart", () => {
  assert.deepEqual(parts(PLAN, "a").map(({ name }) => name), ["Meaning", "Words"]);
  const two = { ...PLAN, candidates: [PLAN.candidates[0], { ...PLAN.candidates[0], tower: "image" }, PLAN.candidates[1]] };
  assert.deepEqual(parts(two, "a").map(({ name }) => name), ["Meaning of text", "Meaning of pictures", "Words"]);
});

test("the plan is told in sentences", () => {
  assert.match(ordering("hybrid", PLAN), /weight \/ \(60 \+ rank\); the sum orders/);
  assert.match(ordering("lexical", { ...PLAN, candidates: [PLAN.candidates[1]] }), /words alone/);
  assert.match(scope(PLAN), /^1,234 .*hnsw, measured recall 0.97/);
});

test("examples are words of the documents: captions of several languages, names in words, titles, beginnings", () => {
  const captions = { en: ["cat"], ja: ["猫"], und: ["🐈"] };
  assert.deepEqual(examples([{ captions }, { captions: { en: ["dog"], ja: ["犬"] } }]), [
    { text: "cat", language: "en" },
    { text: "犬", language: "ja" },
  ]);
  assert.equal(examples([{ modality: "code", metadata: { symbol: "Parser.parseArgs_now" } }])[0].text, "parse args now");
  assert.equal(examples([{ title: "Tea", text: "…", language: "en" }])[0].text, "Tea");
  assert.equal(examples([{ text: "one two three four five six seven" }])[0].text, "one two three four five six");
  assert.equal(examples([{ title: "Tea" }, { title: "Tea" }, {}]).length, 1);
});

test("facts of a collection name its size, its languages and its encoder", () => {
  assert.equal(facts({ documents: 7996, languages: { en: 1, und: 2 }, encoder: "/models/mine" }), "7,996 documents in English · encoder mine");
  assert.match(facts({ documents: 1, languages: { en: 1, de: 1 }, encoder: null }), /^1 document in 2 languages · no encoder/);
});

test("a collection whose encoder sees no pictures says so", () => {
  assert.match(refusalOf({ towers: ["text"], encoder: "multilingual" }), /multilingual has no picture tower/);
  assert.match(refusalOf({ towers: [], encoder: null }), /no encoder/);
  assert.equal(refusalOf({ towers: ["text", "image"], encoder: "m" }), "");
});

test("a service that is too busy is asked again after the time that it names, but not for ever", () => {
  assert.equal(patience(503, "1", 1), 1);
  assert.equal(patience(429, "600", 2), 10);
  assert.equal(patience(503, "1", 4), null);
  assert.equal(patience(503, null, 1), null);
  assert.equal(patience(503, "Wed, 21 Oct 2026 07:28:00 GMT", 1), null);
  assert.equal(patience(400, "1", 1), null);
});
