// The page that compares: `,` and `.` go to the pair of samples before and to the next one.
"use strict";

document.addEventListener("keydown", (event) => {
  const wanted = { ",": "prev", ".": "next" }[event.key];
  if (!wanted || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  document.querySelector(`#compare a[rel="${wanted}"]`)?.click();
});
