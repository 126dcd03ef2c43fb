"use strict";
// What a page can do besides what it can do without scripts: keys, and choosing all pictures of a page.
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

document.addEventListener("click", (event) => {
  const all = event.target.closest("[data-choose]");
  if (!all) return;
  for (const box of document.querySelectorAll(`input[name="${all.dataset.choose}"]`)) box.checked = true;
  event.preventDefault();
});
