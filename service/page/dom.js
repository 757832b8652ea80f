// Elements from plain values. Text is only ever set as text.

/** An element with attributes (empty ones left out; `true` is an attribute without a value) and children, if any. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value) made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child));
  return made;
}

/** A button that does something here, and sends nothing. */
export function button(label, action, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", action);
  return made;
}

/** One of the icons in the page. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  made.append(use);
  return made;
}
