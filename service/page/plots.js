// Lines over time as geometry and as words. Nothing of the DOM.

/** A line: `values[i]` at `times[i]`, null where there is nothing to show.
 * @typedef {{name: string, values: (number | null)[]}} Line */

export const WIDTH = 300;
export const HEIGHT = 72;

/** The smallest 1, 2 or 5 times a power of ten that isn't below a value; 1 for nothing. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= value * (1 - 1e-9)) ?? 10;
  return Number((step * power).toPrecision(1));
}

/** The largest of all values, 0 where there is none. */
export function largest(lines) {
  return Math.max(0, ...lines.flatMap(({ values }) => values.filter((value) => value !== null)));
}

/**
 * The path of a line in a box of WIDTH by HEIGHT: a gap where a value is null, a dot where one stands alone.
 * @param {number[]} times ascending
 * @param {(number | null)[]} values
 * @param {{from: number, to: number, top: number}} scale the times of both sides, and the value of the upper border
 */
export function path(times, values, { from, to, top }) {
  const span = to - from || 1;
  let drawing = false;
  let drawn = "";
  values.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = round(((times[i] - from) / span) * WIDTH);
    const y = round(HEIGHT - (Math.min(value, top) / top) * HEIGHT);
    // A line of no length with round ends is a dot.
    drawn += drawing ? `L${x} ${y}` : `M${x} ${y}h0`;
    drawing = true;
  });
  return drawn;
}

const round = (value) => Math.round(value * 10) / 10;

/**
 * What a plot shows, for who doesn't see it: `p50: now 3.1 ms, highest 8 ms; p95: no data yet`.
 * @param {Line[]} lines
 * @param {(value: number) => string} format
 */
export function words(lines, format) {
  const said = lines.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return `${name}: no data yet`;
    const now = values.at(-1);
    const latest = now === null ? "nothing now" : `now ${format(now)}`;
    return `${name}: ${latest}, highest ${format(Math.max(...known))}`;
  });
  return said.join("; ");
}
