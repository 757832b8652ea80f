// The table that says why a hit is where it is, fetched when it is first asked for.

import { Problem } from "./api.js";
import { element } from "./dom.js";
import { ordering, parts, scope } from "./explain.js";
import { number } from "./hits.js";

/** The panel of a hit, and what fills it when it is opened, until it is filled. */
export function whyPanel(hit, { explain, mode }) {
  const panel = element("div", { class: "why", role: "group", "aria-label": "Why this hit" });
  const begin = () => {
    if (panel.querySelector("table")) return;
    panel.replaceChildren(element("p", {}, "Asking …"));
    fill(panel, hit, mode, explain);
  };
  return { element: panel, fill: begin };
}

async function fill(panel, hit, mode, explain) {
  try {
    const plan = await explain();
    const lists = parts(plan, hit.id);
    panel.replaceChildren(table(lists, hit), element("p", {}, `${ordering(mode, plan)} ${scope(plan)}`));
  } catch (error) {
    if (error.name === "AbortError") return;
    const hint = error instanceof Problem ? ` ${error.hint}` : "";
    panel.replaceChildren(element("p", { role: "alert" }, `${error.message}${hint}`));
  }
}

function table(lists, hit) {
  const fused = lists.length > 1;
  const names = ["Found by", "Rank", "Score", ...(fused ? ["Weight", "Adds"] : [])];
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const most = Math.max(...lists.map(({ part }) => part));
  const rows = lists.map((list) => row(list, fused, most));
  const sum = fused ? [element("tr", { class: "sum" }, element("th", { scope: "row", colspan: "4" }, "Score"), element("td", {}, number(hit.score)))] : [];
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows, ...sum));
}

function row({ name, rank, of, score, weight, part }, fused, most) {
  const values = [rank === null ? `not in its first ${of}` : `${rank} of ${of}`, score === null ? "–" : number(score)];
  const cells = values.map((value) => element("td", {}, value));
  if (fused) cells.push(element("td", {}, number(weight)), element("td", {}, bar(most ? part / most : 0), number(part)));
  return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
}

/** A share as a bar, which the number beside it says already. */
function bar(share) {
  return element("progress", { max: "1", value: String(share), "aria-hidden": "true" });
}
