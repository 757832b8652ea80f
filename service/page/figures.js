// What the status view shows, from readings of the metrics. Nothing of the DOM.

import { buckets, increase, quantile, total } from "./metrics.js";

/** A reading and its time in milliseconds.
 * @typedef {{time: number, reading: import("./metrics.js").Reading}} Sample */

// A value at one time is of what happened in the half minute before it: less jumps about, more hides what is new.
export const WINDOW = 30_000;
// Kept are 15 minutes.
export const KEPT = 15 * 60_000;

const REQUESTS = "polyseek_requests_total";
// The page's own questions are no traffic.
const api = ({ route }) => route.startsWith("/v1/");

/**
 * The samples with a new one; those too old are gone.
 * @param {Sample[]} samples
 * @param {Sample} sample
 */
export function kept(samples, sample) {
  return [...samples.filter(({ time }) => time > sample.time - KEPT), sample];
}

/** For each sample the oldest one of the window before it; itself where it is the first. */
function earlier(samples) {
  return samples.map((now) => samples.find(({ time }) => time >= now.time - WINDOW));
}

/** A line: for each sample what `value` gives, from the sample and the one before its window. */
function line(name, samples, value) {
  const before = earlier(samples);
  const values = samples.map((now, i) => {
    const seconds = (now.time - before[i].time) / 1000;
    return seconds > 0 ? value(now.reading, before[i].reading, seconds) : null;
  });
  return { name, values };
}

function rate(label, samples, name, match) {
  return line(label, samples, (now, then, seconds) => increase(now, then, name, match) / seconds);
}

function gauge(label, samples, name) {
  return { name: label, values: samples.map(({ reading }) => total(reading, name)) };
}

function quantiles(samples, name, match) {
  const at = (label, share) =>
    line(label, samples, (now, then) => quantile(share, buckets(now, then, name, match)));
  return [at("p50", 0.5), at("p95", 0.95)];
}

/** The mean of a histogram's observations, null where there was none. */
function mean(label, samples, name) {
  return line(label, samples, (now, then) => share(increase(now, then, `${name}_sum`), increase(now, then, `${name}_count`)));
}

function share(part, whole) {
  return whole > 0 ? part / whole : null;
}

function hits(samples) {
  const name = "polyseek_query_cache_total";
  return line("hits", samples, (now, then) =>
    share(increase(now, then, name, ({ outcome }) => outcome === "hit"), increase(now, then, name)),
  );
}

const status = (digit) => (labels) => api(labels) && labels.status.startsWith(digit);
const reason = (wanted) => (labels) => labels.reason === wanted;
const stage = (wanted) => (labels) => labels.stage === wanted;
const STAGE = "polyseek_stage_seconds";
const DROPPED = "polyseek_dropped_total";

// Each plot: its heading, what it means, how its values read, its lines.
const PLOTS = {
  Traffic: [
    ["Requests", "answered in a second", perSecond, (samples) => [rate("all", samples, REQUESTS, api)]],
    ["Latency", "of a request", duration, (samples) => quantiles(samples, "polyseek_request_seconds", api)],
    [
      "Errors", "answered in a second", perSecond,
      (samples) => [rate("5xx", samples, REQUESTS, status("5")), rate("4xx", samples, REQUESTS, status("4"))],
    ],
    [
      "Given up", "before it was done, in a second", perSecond,
      (samples) => [
        rate("full", samples, DROPPED, reason("full")),
        rate("timed out", samples, DROPPED, reason("timed_out")),
        rate("client gone", samples, DROPPED, reason("client_gone")),
      ],
    ],
  ],
  Stages: [
    ["Queue", "wait before encoding", duration, (samples) => quantiles(samples, STAGE, stage("queue"))],
    ["Encode", "a batch to vectors", duration, (samples) => quantiles(samples, STAGE, stage("encode"))],
    ["Search", "candidates, fusion, hits", duration, (samples) => quantiles(samples, STAGE, stage("search"))],
    ["Write", "a put or a deletion", duration, (samples) => quantiles(samples, STAGE, stage("write"))],
  ],
  Encoding: [
    ["Waiting", "texts and pictures in the queue", count, (samples) => [gauge("waiting", samples, "polyseek_queue_length")]],
    ["Batch", "texts encoded together, mean", count, (samples) => [mean("texts", samples, "polyseek_batch_texts")]],
    ["Tokens", "encoded together, mean", count, (samples) => [mean("tokens", samples, "polyseek_batch_tokens")]],
    ["Cache", "query vectors found in it", percent, (samples) => [hits(samples)]],
  ],
  Process: [
    ["Memory", "resident", bytes, (samples) => [gauge("memory", samples, "process_resident_memory_bytes")]],
    ["Processor", "cores in use", count, (samples) => [rate("cores", samples, "process_cpu_seconds_total")]],
    ["Files", "open, and connections", count, (samples) => [gauge("files", samples, "process_open_fds")]],
  ],
};

/**
 * The plots in their groups.
 * @param {Sample[]} samples
 */
export function plots(samples) {
  return Object.entries(PLOTS).map(([heading, members]) => ({
    heading,
    plots: members.map(([name, meaning, format, lines]) => ({ name, meaning, format, lines: lines(samples) })),
  }));
}

/**
 * The collections, with what a reading tells of each.
 * @param {import("./metrics.js").Reading} reading
 */
export function collections(reading) {
  const of = (name, figure) => total(reading, `polyseek_collection_${figure}`, ({ collection }) => collection === name);
  const kinds = reading.get("polyseek_collection_index_info") ?? [];
  const names = (reading.get("polyseek_collection_up") ?? []).map(({ labels }) => labels.collection).sort();
  return names.map((name) => {
    const up = of(name, "up") === 1;
    const state = !up ? "down" : of(name, "degraded") === 1 ? "degraded" : "up";
    return {
      name,
      state,
      figures: {
        Documents: up ? count(of(name, "documents")) : "–",
        Units: up ? count(of(name, "units")) : "–",
        Size: up ? bytes(of(name, "bytes")) : "–",
        Index: kinds.find(({ labels }) => labels.collection === name)?.labels.kind ?? "–",
        Recall: up ? of(name, "recall").toFixed(3) : "–",
        Generation: up ? count(of(name, "generation")) : "–",
        Tail: up ? count(of(name, "tail_units")) : "–",
      },
    };
  });
}

/** `3.1 ms`, `1.24 s` */
export function duration(seconds) {
  return seconds < 1 ? `${significant(seconds * 1000)} ms` : `${significant(seconds)} s`;
}

/** `12.3/s` */
export function perSecond(value) {
  return `${significant(value)}/s`;
}

/** `1,408`, `3.25` */
export function count(value) {
  return Number.isInteger(value) ? value.toLocaleString("en") : significant(value);
}

/** `38 %` */
export function percent(value) {
  return `${Math.round(value * 100)} %`;
}

/** `388 MB` */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = value < 1 ? 0 : Math.min(Math.floor(Math.log10(value) / 3), units.length - 1);
  return `${significant(value / 1000 ** step)} ${units[step]}`;
}

/** `1 minute`, `3 hours` */
export function span(seconds) {
  const [size, unit] = [[86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"]].find(([size]) => seconds >= size) ?? [1, "second"];
  const whole = Math.floor(seconds / size);
  return `${whole} ${unit}${whole === 1 ? "" : "s"}`;
}

function significant(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 3 });
}
