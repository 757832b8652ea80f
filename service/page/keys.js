// Keys beside those that every page has: `/` to the search, up and down through the hits.

/** @param {HTMLInputElement} q @param {HTMLElement} list */
export function listenForKeys(q, list) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actionFor(event, q, list);
    if (!action) return;
    event.preventDefault();
    action.focus();
    if (action === q) q.select();
  });
}

/** The element that a key goes to; null where it means what it means everywhere. */
function actionFor({ key, target }, q, list) {
  if (key === "/") return target.matches("input, select, textarea") ? null : q;
  if (key === "ArrowDown" && target === q) return list.firstElementChild;
  if (target.parentElement !== list) return null;
  if (key === "ArrowDown") return target.nextElementSibling;
  return key === "ArrowUp" ? (target.previousElementSibling ?? q) : null;
}
