// Metrics as the service gives them to Prometheus: read, compared with an earlier reading, summed up. Nothing of the DOM.

/** One reading: the samples by name.
 * @typedef {Map<string, {labels: Record<string, string>, value: number}[]>} Reading */

/** Which samples of a name are meant.
 * @typedef {(labels: Record<string, string>) => boolean} Match */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };
const SPECIAL = { "+Inf": Infinity, "-Inf": -Infinity };

/**
 * @param {string} text Prometheus' text format
 * @returns {Reading}
 */
export function parse(text) {
  const reading = new Map();
  for (const line of text.split("\n")) {
    const found = SAMPLE.exec(line);
    if (!found) continue; // a comment, or the end
    const [, name, labels = "", value] = found;
    if (!reading.has(name)) reading.set(name, []);
    reading.get(name).push({ labels: readLabels(labels), value: SPECIAL[value] ?? Number(value) });
  }
  return reading;
}

function readLabels(text) {
  const pairs = Array.from(text.matchAll(LABEL), ([, name, value]) => [
    name,
    value.replace(/\\[n"\\]/g, (escape) => ESCAPES[escape]),
  ]);
  return Object.fromEntries(pairs);
}

const all = () => true;

/**
 * The sum of a name's samples, 0 where there is none.
 * @param {Reading} reading
 * @param {string} name
 * @param {Match} match
 */
export function total(reading, name, match = all) {
  const meant = (reading.get(name) ?? []).filter(({ labels }) => match(labels));
  return meant.reduce((sum, { value }) => sum + value, 0);
}

/** Whether a process answered both: another one has begun to count at zero. */
function sameProcess(now, then) {
  const start = "process_start_time_seconds";
  return total(now, start) === total(then, start);
}

/**
 * How much a counter grew between two readings.
 * @param {Reading} now
 * @param {Reading} then
 * @param {string} name
 * @param {Match} match
 */
export function increase(now, then, name, match = all) {
  const before = sameProcess(now, then) ? total(then, name, match) : 0;
  return total(now, name, match) - before;
}

/**
 * The observations of a histogram between two readings.
 * @param {Reading} now
 * @param {Reading} then
 * @param {string} name without `_bucket`
 * @param {Match} match
 * @returns {{bound: number, count: number}[]} ascending, each with what was observed up to its bound
 */
export function buckets(now, then, name, match = all) {
  const samples = now.get(`${name}_bucket`) ?? [];
  const bounds = [...new Set(samples.filter(({ labels }) => match(labels)).map(({ labels }) => labels.le))];
  const counted = bounds.map((le) => ({
    bound: SPECIAL[le] ?? Number(le),
    count: increase(now, then, `${name}_bucket`, (labels) => labels.le === le && match(labels)),
  }));
  return counted.sort((a, b) => a.bound - b.bound);
}

/**
 * A quantile, taken to lie evenly within its bucket, as Prometheus' `histogram_quantile` does.
 * @param {number} share 0 to 1
 * @param {{bound: number, count: number}[]} counted as `buckets` gives them
 * @returns {number | null} null where nothing was observed; the last finite bound where it lies beyond
 */
export function quantile(share, counted) {
  const observed = counted.at(-1)?.count ?? 0;
  if (observed <= 0) return null;
  const wanted = share * observed;
  const place = counted.findIndex(({ count }) => count >= wanted);
  const { bound, count } = counted[place];
  const below = place > 0 ? counted[place - 1] : { bound: 0, count: 0 };
  if (bound === Infinity) return below.bound;
  return below.bound + ((bound - below.bound) * (wanted - below.count)) / (count - below.count);
}
