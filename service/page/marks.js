// Where marks go in a text. Offsets count Unicode code points, as the service gives them; a JavaScript string counts
// UTF-16 units, in which an emoji is two.

/** A stretch of text, marked or not.
 * @typedef {{text: string, marked: boolean}} Piece */

const LIMIT = 480;
const WORD = 20;

/** The first place from `at` on, in this direction, where a word begins or ends; `at` where none is near, as in Chinese. */
function wordBorder(points, at, step) {
  for (let place = at; Math.abs(place - at) <= WORD; place += step) {
    const [before, after] = [points[place - 1] ?? " ", points[place] ?? " "];
    if (/\s/u.test(step > 0 ? before : after)) return place;
  }
  return at;
}

/**
 * The points from `start` to `end` as pieces, cut at the marks.
 * @param {string[]} points code points of the text
 * @param {[number, number][]} marks ascending, not overlapping
 * @returns {Piece[]}
 */
export function pieces(points, marks, start = 0, end = points.length) {
  const result = [];
  let at = start;
  const push = (to, marked) => {
    if (to > at) result.push({ text: points.slice(at, to).join(""), marked });
    at = Math.max(at, to);
  };
  for (const [from, to] of marks) {
    if (to <= at) continue;
    if (from >= end) break;
    push(Math.max(at, from), false);
    push(Math.min(to, end), true);
  }
  push(end, false);
  return result;
}

/**
 * What is shown of a text: the unit that was found, or where that is long, `limit` points of it around its first mark.
 * @param {string} text
 * @param {{start: number, end: number}} unit
 * @param {[number, number][]} marks
 * @returns {{pieces: Piece[], cutBefore: boolean, cutAfter: boolean}}
 */
export function excerpt(text, unit, marks, limit = LIMIT) {
  const points = Array.from(text);
  let start = Math.min(unit.start, points.length);
  let end = unit.end > unit.start ? Math.min(unit.end, points.length) : points.length;
  if (end - start > limit) {
    const first = marks.find(([from, to]) => to > start && from < end);
    // A quarter of the excerpt stands before the mark, so that it is read in its sentence.
    const wanted = first ? first[0] - Math.floor(limit / 4) : start;
    const from = Math.max(start, Math.min(wanted, end - limit));
    const to = from + limit;
    start = from === start ? from : wordBorder(points, from, 1);
    end = to === end ? to : wordBorder(points, to, -1);
  }
  return { pieces: pieces(points, marks, start, end), cutBefore: start > 0, cutAfter: end < points.length };
}
