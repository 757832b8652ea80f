// A hit as an element, with what can be done with it.

import { documentPath, hasKey } from "./api.js";
import { button, element, icon } from "./dom.js";
import { found, foundCode, LINES, view } from "./hits.js";
import { whyPanel } from "./why.js";

/**
 * @typedef {{collection: string, mode: string, languages: string[], grid: boolean, like: (hit: object, title: string) => void,
 *   explain: () => Promise<object>, thumbnail: (id: string, size: number) => Promise<string | null>}} Surroundings
 *   grid: whether the hits are shown as a grid of pictures; thumbnail: an address of it, null where there is none
 */

/**
 * @param {object} hit of the search response
 * @param {Surroundings} around
 */
export function card(hit, around) {
  const shown = view(hit, around.languages);
  const item = element("li", { class: shown.code ? "hit code" : "hit", tabindex: "-1" });
  const actions = element("div", { class: "actions" });
  const body = element("div", { class: "body" }, about(shown), heading(shown, hit, around.grid), content(shown, hit, actions, around.grid), actions);
  actions.append(...common(shown, hit, body, around));
  if (shown.picture) item.append(pictureFrame(shown, hit, around));
  item.append(body);
  return item;
}

/** The line above the title: where, in which language, with which score. */
function about(shown) {
  return element(
    "p",
    { class: "about" },
    shown.place && element("bdi", { class: "place", dir: "ltr" }, shown.place),
    !shown.code && shown.languageName && element("span", { class: "tag" }, shown.languageName),
    element("span", { class: "score", title: "Score that ordered the hits; see “Why this hit”" }, shown.score),
  );
}

function heading(shown, hit, grid) {
  if (shown.code) return element("h2", { dir: "ltr" }, shown.title);
  const heading = element("h2", { lang: shown.titleLanguage, dir: "auto" }, shown.title);
  const caption = grid ? wantedCaption(shown, hit) : null;
  if (caption) {
    heading.lang = caption.language;
    heading.replaceChildren(...(shown.foundIsWanted ? found(hit).pieces.map(pieceElement) : [caption.text]));
  }
  return heading;
}

/** What a picture shows, in the language that is wanted; null where there are no captions. */
function wantedCaption(shown, hit) {
  if (shown.foundIsWanted) return { text: hit.unit.caption, language: shown.language };
  return shown.captions[0] ?? null;
}

function content(shown, hit, actions, grid) {
  if (shown.code) return codeBlock(shown, hit, actions);
  const block = element("div", { class: "content" });
  if (!grid || (hit.unit.kind === "caption" && !shown.foundIsWanted)) block.append(passage(shown, hit, actions));
  const captions = grid && !shown.foundIsWanted ? shown.captions.slice(1) : shown.captions;
  if (captions.length) {
    const items = captions.map(({ text, language }) => element("li", { lang: language, dir: "auto" }, text));
    block.append(element("ul", { class: "captions" }, ...items));
  }
  return block;
}

/** Text with its marks, and buttons that show more and less of what is around it. */
function passage(shown, hit, actions) {
  const text = element("p", { class: "text", lang: shown.language, dir: "auto" });
  let steps = 0;
  const show = (to) => {
    steps = to;
    const part = found(hit, steps);
    text.classList.toggle("whole", steps > 0);
    if (part) text.replaceChildren(part.cutBefore ? "… " : "", ...part.pieces.map(pieceElement), part.cutAfter ? " …" : "");
    more.hidden = !part || !(part.cutBefore || part.cutAfter);
    less.hidden = steps === 0;
  };
  const more = button("More context", () => show(steps + 1));
  const less = button("Less", () => {
    show(0);
    more.focus();
  });
  actions.append(more, less);
  show(0);
  return text.hasChildNodes() ? text : "";
}

/** A text, or an element where there is something to see of it. */
function pieceElement({ text, marked, kind }) {
  if (!marked && !kind) return text;
  return element(marked ? "mark" : "span", { class: kind && `is-${kind}` }, text);
}

function codeBlock(shown, hit, actions) {
  const code = element("code");
  // It may be wider than the page, and is then moved with the arrow keys.
  const block = element("pre", { class: "source", dir: "ltr", translate: "no", tabindex: "0", "aria-label": `Code of ${shown.title}` }, code);
  const show = (limit) => {
    const made = foundCode(hit, limit);
    code.replaceChildren(...made.lines.map((pieces, index) => lineElement(pieces, made.first + index)));
    return made;
  };
  const { after } = show(LINES);
  if (after > 0) actions.append(toggle([`${after} more lines`, "Fewer lines"], (open) => show(open ? Infinity : LINES)));
  return block;
}

function lineElement(pieces, number) {
  return element("span", { class: "line", "data-line": String(number) }, ...pieces.map(pieceElement), "\n");
}

/** A button that shows and hides something. */
function toggle([closed, opened], change) {
  const made = button(closed, () => {
    const open = made.getAttribute("aria-expanded") !== "true";
    made.setAttribute("aria-expanded", String(open));
    made.textContent = open ? opened : closed;
    change(open);
  }, { "aria-expanded": "false" });
  return made;
}

function common(shown, hit, body, around) {
  const panel = whyPanel(hit, around);
  const below = element("div", {}, panel.element, around.grid && element("div", { class: "actions" }, ...links(shown, around)));
  const why = toggle(["Why this hit", "Hide why"], (open) => {
    if (open) panel.fill();
    body[open ? "append" : "removeChild"](below);
  });
  const like = button("More like this", () => around.like(hit, shown.title));
  return around.grid ? [like, why] : [like, why, ...links(shown, around)];
}

/** Ways to take the hit elsewhere. */
function links(shown, { collection }) {
  // The clipboard is only there on HTTPS and on this machine.
  const copy = navigator.clipboard && copyButton(shown.place || shown.id, shown.place ? "Copy place" : "Copy id");
  const json = !hasKey() && element("a", { href: documentPath(collection, shown.id) }, "JSON");
  return [copy, json].filter(Boolean);
}

function copyButton(text, label) {
  const made = button(label, async () => {
    await navigator.clipboard.writeText(text);
    made.replaceChildren(icon("check"), "Copied");
    setTimeout(() => made.replaceChildren(label), 1500);
  }, { "aria-live": "polite" });
  return made;
}

function pictureFrame(shown, hit, around) {
  const caption = wantedCaption(shown, hit);
  const image = element("img", { alt: caption?.text ?? `Picture of ${shown.title}`, lang: caption?.language });
  const frame = element("div", { class: "frame" }, image);
  around.thumbnail(hit.id, around.grid ? 384 : 192).then((url) => (url ? (image.src = url) : frame.remove()));
  return frame;
}
