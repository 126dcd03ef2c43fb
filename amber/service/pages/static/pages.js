"use strict";
// What a page can do besides what it can do without scripts: keys, choosing all pictures of a page, and Enter
// in a field, which presses the button beside it; without scripts, Enter asks for one of the buttons.
const GO = { h: "/", t: "/tasks", s: "/slices", r: "/requests", p: "/plans", u: "/runs", l: "/log" };
let waiting = false;

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (waiting && GO[event.key]) location.href = GO[event.key];
  waiting = event.key === "g";
  if (event.key === "/") {
    const field = document.querySelector("main input[type=search], main .filters input");
    if (field) { field.focus(); event.preventDefault(); }
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || !event.target.matches(".act details input")) return;
  event.preventDefault();
  event.target.closest("details").querySelector("button").click();
});

document.addEventListener("click", (event) => {
  const all = event.target.closest("[data-choose]");
  if (!all) return;
  for (const box of document.querySelectorAll(`input[name="${all.dataset.choose}"]`)) box.checked = true;
  event.preventDefault();
});

document.addEventListener("error", (event) => unreadable(event.target), true);
for (const image of document.querySelectorAll("img[data-picture]")) if (image.complete && !image.naturalWidth) unreadable(image);

function unreadable(image) {
  if (!(image instanceof HTMLImageElement) || !("picture" in image.dataset)) return;
  const line = document.createElement("span");
  line.className = "unreadable";
  line.style.display = "block";
  line.textContent = `${image.alt}: the picture cannot be shown`;
  image.parentElement.querySelector("svg.boxes")?.remove();
  image.replaceWith(line);
}
