// A picture to search by: chosen, dropped or pasted.

import { button, element, icon } from "./dom.js";

/**
 * Listen for pictures.
 * @param {{choose: HTMLButtonElement, file: HTMLInputElement, box: HTMLElement}} elements
 * @param {(picture: File) => void} take
 */
export function listenForPictures({ choose, file, box }, take) {
  const first = (files) => {
    const picture = Array.from(files).find(({ type }) => type.startsWith("image/"));
    if (picture) take(picture);
    return Boolean(picture);
  };
  choose.addEventListener("click", () => choose.getAttribute("aria-disabled") !== "true" && file.click());
  file.addEventListener("change", () => {
    first(file.files);
    file.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => first(event.clipboardData.files) && event.preventDefault());
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    box.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && box.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    box.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser would show the file instead of this page
    first(event.dataTransfer.files);
  });
}

/** Say on the button whether the collection takes pictures, and if not, why. */
export function allowPictures(choose, reason, info) {
  const refusal = refusalOf(info);
  choose.setAttribute("aria-disabled", String(Boolean(refusal)));
  reason.textContent = refusal || "Or drop a picture here, or paste one.";
}

/** Why a collection can't be searched by a picture; empty where it can. */
export function refusalOf(info) {
  if (!info || info.problem || info.towers.includes("image")) return "";
  const who = info.encoder === null ? "This collection has no encoder" : `This collection's encoder ${info.encoder.split("/").at(-1)} has no picture tower`;
  return `${who}: it can't be searched by a picture.`;
}

/** The picture of this search, with a button that takes it away. */
export function pictureChip(picture, remove) {
  const url = URL.createObjectURL(picture);
  const image = element("img", { src: url, alt: "Searched by:" });
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  image.addEventListener("error", () => image.remove());
  return element("li", { class: "chip" }, image, element("bdi", {}, picture.name || "picture"), button(icon("close"), remove, { "aria-label": "Remove the picture" }));
}
