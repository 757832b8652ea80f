// Where marks and colours go in a text. Offsets count Unicode code points, as the service gives them; a JavaScript
// string counts UTF-16 units, in which an emoji is two.

/** A stretch of text: marked or not, and of a kind (of syntax, or `around` the passage that was found) or of none.
 * @typedef {{text: string, marked: boolean, kind: string}} Piece */
/** What lies on a text: spans ascending, those of one list not overlapping.
 * @typedef {{marks: [number, number][], kinds: [number, number, string][]}} Layers */
/** A part of a text.
 * @typedef {{pieces: Piece[], cutBefore: boolean, cutAfter: boolean}} Part */

const LIMIT = 480;
const WORD = 20;
const AROUND = 1500;

/** The first place from `at` on, in this direction, where a word begins or ends; `at` where none is near, as in Chinese. */
function wordBorder(points, at, step) {
  for (let place = at; Math.abs(place - at) <= WORD; place += step) {
    const [before, after] = [points[place - 1] ?? " ", points[place] ?? " "];
    if (/\s/u.test(step > 0 ? before : after)) return place;
  }
  return at;
}

/** A function that finds the span over a place; called with places that ascend. */
function cursor(spans) {
  let index = 0;
  return (place) => {
    while (index < spans.length && spans[index][1] <= place) index += 1;
    return index < spans.length && spans[index][0] <= place ? spans[index] : null;
  };
}

/**
 * The points from `start` to `end` as pieces, cut wherever a mark or a kind begins or ends.
 * @param {string[]} points code points of the text
 * @param {Layers} layers
 * @returns {Piece[]}
 */
export function pieces(points, { marks = [], kinds = [] }, start = 0, end = points.length) {
  const inside = [...marks, ...kinds].flatMap(([from, to]) => [from, to]).filter((at) => at > start && at < end);
  const borders = [...new Set([start, ...inside, end])].sort((a, b) => a - b);
  const [markAt, kindAt] = [cursor(marks), cursor(kinds)];
  return borders.slice(1).map((to, index) => {
    const from = borders[index];
    return { text: points.slice(from, to).join(""), marked: markAt(from) !== null, kind: kindAt(from)?.[2] ?? "" };
  });
}

function part(points, layers, start, end) {
  return { pieces: pieces(points, layers, start, end), cutBefore: start > 0, cutAfter: end < points.length };
}

/** The unit's borders in a text of so many points; all of it for a unit without. */
function borders(unit, length) {
  return unit.end > unit.start ? [Math.min(unit.start, length), Math.min(unit.end, length)] : [0, length];
}

/**
 * What is shown of a text: the unit that was found, or where that is long, `limit` points of it around its first mark.
 * @param {string} text
 * @param {{start: number, end: number}} unit
 * @param {[number, number][]} marks
 * @returns {Part}
 */
export function excerpt(text, unit, marks, limit = LIMIT) {
  const points = Array.from(text);
  let [start, end] = borders(unit, points.length);
  if (end - start > limit) {
    const first = marks.find(([from, to]) => to > start && from < end);
    // A quarter of the excerpt stands before the mark, so that it is read in its sentence.
    const wanted = first ? first[0] - Math.floor(limit / 4) : start;
    const from = Math.max(start, Math.min(wanted, end - limit));
    const to = from + limit;
    start = from === start ? from : wordBorder(points, from, 1);
    end = to === end ? to : wordBorder(points, to, -1);
  }
  return part(points, { marks }, start, end);
}

/**
 * The whole unit in its context: `steps` times `step` points of the text before and after it, of the kind `around`.
 * @returns {Part}
 */
export function context(text, unit, marks, steps, step = AROUND) {
  const points = Array.from(text);
  const [start, end] = borders(unit, points.length);
  const from = Math.max(0, start - steps * step);
  const to = Math.min(points.length, end + steps * step);
  const kinds = [[0, start, "around"], [end, points.length, "around"]];
  return part(points, { marks, kinds }, from && wordBorder(points, from, 1), to === points.length ? to : wordBorder(points, to, -1));
}

/**
 * The unit of a piece of code by lines, at most `limit` of them.
 * @param {Layers} layers
 * @returns {{lines: Piece[][], before: number, after: number}} before, after: lines left out above and below
 */
export function codeLines(text, unit, layers, limit = Infinity) {
  const points = Array.from(text);
  const lines = byLine(pieces(points, layers));
  const newlinesBefore = (at) => points.slice(0, at).filter((point) => point === "\n").length;
  const [start, end] = borders(unit, points.length);
  const [first, last] = [newlinesBefore(start), newlinesBefore(end) + 1];
  const shown = lines.slice(first, Math.min(last, first + limit));
  return { lines: shown, before: first, after: lines.length - first - shown.length };
}

function byLine(all) {
  const lines = [[]];
  for (const piece of all) {
    piece.text.split("\n").forEach((text, index) => {
      if (index > 0) lines.push([]);
      if (text) lines.at(-1).push({ ...piece, text });
    });
  }
  return lines;
}
