import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes, collections, count, duration, kept, KEPT, perSecond, percent, plots, span, WINDOW } from "../../service/page/figures.js";
import { buckets, increase, parse, quantile, total } from "../../service/page/metrics.js";
import { ceiling, HEIGHT, largest, path, WIDTH, words } from "../../service/page/plots.js";

const START = "process_start_time_seconds 1000";

test("samples are read by name, with their labels and special values", () => {
  const reading = parse(`# HELP a Text.\n# TYPE a counter\na{x="1",y="b"} 2.5\na 1e+09\nb_bucket{le="+Inf"} 3\n`);
  assert.deepEqual(reading.get("a"), [
    { labels: { x: "1", y: "b" }, value: 2.5 },
    { labels: {}, value: 1e9 },
  ]);
  assert.deepEqual(parse("gone NaN").get("gone")[0].value, NaN);
  assert.equal(parse("most +Inf").get("most")[0].value, Infinity);
});

test("escapes, braces and commas within a label are part of its value", () => {
  const [{ labels }] = parse(String.raw`a{x="q\"q\\n\nr",route="/v1/{name},{id}"} 1`).get("a");
  assert.deepEqual(labels, { x: 'q"q\\n\nr', route: "/v1/{name},{id}" });
});

test("a total sums what is meant and is 0 where there is nothing", () => {
  const reading = parse('a{s="200"} 5\na{s="404"} 2');
  assert.equal(total(reading, "a"), 7);
  assert.equal(total(reading, "a", ({ s }) => s === "404"), 2);
  assert.equal(total(reading, "none"), 0);
});

test("an increase is a difference, or what there is where another process answers", () => {
  const then = parse(`${START}\na 10`);
  assert.equal(increase(parse(`${START}\na 12`), then, "a"), 2);
  assert.equal(increase(parse("process_start_time_seconds 2000\na 3"), then, "a"), 3);
});

const histogram = (counts) =>
  parse([START, ...Object.entries(counts).map(([le, n]) => `h_bucket{le="${le}"} ${n}`)].join("\n"));

test("buckets count what was observed between two readings, ascending", () => {
  const then = histogram({ "0.1": 1, "+Inf": 1 });
  const now = histogram({ "+Inf": 5, "0.1": 4 });
  assert.deepEqual(buckets(now, then, "h"), [
    { bound: 0.1, count: 3 },
    { bound: Infinity, count: 4 },
  ]);
});

test("buckets of several label sets are summed", () => {
  const of = (n) => parse(`h_bucket{le="1.0",r="a"} ${n}\nh_bucket{le="1.0",r="b"} ${n}\nh_bucket{le="1.0",r="c"} 9`);
  assert.deepEqual(buckets(of(3), of(1), "h", ({ r }) => r !== "c"), [{ bound: 1, count: 4 }]);
});

test("a quantile lies evenly within its bucket", () => {
  const counted = [
    { bound: 0.1, count: 10 },
    { bound: 0.2, count: 20 },
    { bound: Infinity, count: 20 },
  ];
  assert.equal(quantile(0.25, counted), 0.05);
  assert.equal(quantile(0.5, counted), 0.1);
  assert.ok(Math.abs(quantile(0.75, counted) - 0.15) < 1e-12);
});

test("a quantile beyond the last bound is that bound, and none of nothing is none", () => {
  assert.equal(quantile(0.95, [{ bound: 1, count: 1 }, { bound: Infinity, count: 10 }]), 1);
  assert.equal(quantile(0.5, [{ bound: 1, count: 0 }, { bound: Infinity, count: 0 }]), null);
  assert.equal(quantile(0.5, []), null);
});

test("samples older than a quarter of an hour are forgotten", () => {
  const times = [0, 1, KEPT, KEPT + 1].reduce((samples, time) => kept(samples, { time }), []);
  assert.deepEqual(times.map(({ time }) => time), [KEPT, KEPT + 1]);
});

/** The line of a plot over readings `step` milliseconds apart. */
function line(name, number, texts, step = 10_000) {
  const samples = texts.map((text, i) => ({ time: i * step, reading: parse(`${START}\n${text}`) }));
  return plots(samples).flatMap((group) => group.plots).find((plot) => plot.name === name).lines[number].values;
}

test("requests are counted in a second, those of the API alone", () => {
  const text = (n) => `polyseek_requests_total{route="/v1/collections",status="200"} ${n}\npolyseek_requests_total{route="/metrics",status="200"} ${n * 9}`;
  assert.deepEqual(line("Requests", 0, [text(0), text(20), text(20)]), [null, 2, 1]);
});

test("a rate looks back half a minute and no further", () => {
  const text = (n) => `polyseek_requests_total{route="/v1/collections",status="200"} ${n}`;
  assert.equal(WINDOW, 30_000);
  assert.deepEqual(line("Requests", 0, [0, 30, 30, 30, 30].map(text)), [null, 3, 1.5, 1, 0]);
});

test("errors are told apart by whose fault they are", () => {
  const text = (n) => `polyseek_requests_total{route="/v1/x",status="503"} ${n}\npolyseek_requests_total{route="/v1/x",status="404"} ${3 * n}`;
  assert.deepEqual([0, 1].map((number) => line("Errors", number, [text(0), text(10)])[1]), [1, 3]);
});

test("a stage has its own quantiles, and a gap while nothing goes through it", () => {
  const text = (n) => ['search",le="0.01', 'search",le="+Inf', 'write",le="+Inf'].map((labels, i) => `polyseek_stage_seconds_bucket{stage="${labels}"} ${i < 2 ? n : 0}`).join("\n");
  assert.deepEqual(line("Search", 0, [text(0), text(4)]), [null, 0.005]);
  assert.deepEqual(line("Write", 0, [text(0), text(4)]), [null, null]);
});

test("a batch has a mean size, the cache a share of hits", () => {
  const text = (n) => `polyseek_batch_texts_sum ${6 * n}\npolyseek_batch_texts_count ${2 * n}\npolyseek_query_cache_total{outcome="hit"} ${3 * n}\npolyseek_query_cache_total{outcome="miss"} ${n}`;
  assert.deepEqual(line("Batch", 0, [text(0), text(1)]), [null, 3]);
  assert.deepEqual(line("Cache", 0, [text(0), text(1), text(1)]), [null, 0.75, 0.75]);
});

test("a collection that is down has no figures, one that is degraded has them", () => {
  const of = (name, figure, value) => `polyseek_collection_${figure}{collection="${name}"} ${value}`;
  const text = [
    of("b", "up", 1), of("b", "degraded", 1), of("b", "documents", 1408), of("b", "bytes", 9.5e6), of("b", "recall", 0.953),
    'polyseek_collection_index_info{collection="b",kind="ivf"} 1', of("a", "up", 0), of("a", "degraded", 0),
  ].join("\n");
  const [a, b] = collections(parse(text));
  assert.deepEqual([a.name, a.state, new Set(Object.values(a.figures))], ["a", "down", new Set(["–"])]);
  assert.deepEqual([b.name, b.state], ["b", "degraded"]);
  assert.deepEqual([b.figures.Documents, b.figures.Size, b.figures.Recall, b.figures.Index], ["1,408", "9.5 MB", "0.953", "ivf"]);
});

test("values are written with their units and three digits", () => {
  assert.deepEqual([0.00312, 0.9999, 1.2345, 0].map(duration), ["3.12 ms", "1,000 ms", "1.23 s", "0 ms"]);
  assert.deepEqual([0, 999, 1e3, 388.4e6, 2e12].map(bytes), ["0 B", "999 B", "1 kB", "388 MB", "2 TB"]);
  assert.deepEqual([perSecond(0.931), percent(0.946), count(7996), count(1.2857)], ["0.931/s", "95 %", "7,996", "1.29"]);
  assert.deepEqual([0, 1, 59, 60, 7_200, 200_000].map(span), ["0 seconds", "1 second", "59 seconds", "1 minute", "2 hours", "2 days"]);
});

test("the upper border is the next 1, 2 or 5 of a power of ten", () => {
  assert.deepEqual([0, 0.0031, 1, 1.01, 2, 4.2, 5.1, 999, 0.3].map(ceiling), [1, 0.005, 1, 2, 2, 5, 10, 1000, 0.5]);
});

test("the largest value leaves gaps out", () => {
  assert.equal(largest([{ values: [1, null] }, { values: [3] }]), 3);
  assert.equal(largest([{ values: [null] }, { values: [] }]), 0);
});

test("a path goes from side to side, with a gap where there is no value and a dot where one stands alone", () => {
  const scale = { from: 0, to: 30, top: 4 };
  assert.equal(path([0, 10, 20, 30], [0, 4, null, 2], scale), `M0 ${HEIGHT}h0L${WIDTH / 3} 0M${WIDTH} ${HEIGHT / 2}h0`);
  assert.equal(path([7], [1], { from: 7, to: 7, top: 1 }), "M0 0h0");
  assert.equal(path([0], [null], scale), "");
});

test("a plot is told in words", () => {
  const lines = [{ name: "p50", values: [0.002, 0.001] }, { name: "p95", values: [0.5, null] }, { name: "p99", values: [null] }];
  assert.equal(words(lines, duration), "p50: now 1 ms, highest 2 ms; p95: nothing now, highest 500 ms; p99: no data yet");
});
