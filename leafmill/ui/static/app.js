// What all pages do by keyboard and by itself. A page says what it wants in attributes:
//   data-go="c"          on a link: `g c` follows it
//   table[data-keys]     j and k (in it also the arrows) move through its rows, by the first link of each; Enter opens it
//   input[type=search]   `/` goes there
//   data-back            a hidden field that says where to return: with the query as it is now
"use strict";

const go = { waiting: false };

/** Whether keys belong to what is being written, or to the browser. */
function writes(event) {
  const at = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || at.isContentEditable || at.matches("textarea, select, input:not([type=checkbox], [type=radio])");
}

/** The links by which the rows of the page's tables are walked. */
function rows() {
  return [...document.querySelectorAll("table[data-keys] tbody tr")].map((row) => row.querySelector("a[href]")).filter(Boolean);
}

/** Go so many rows on from where the focus is; from outside of the table to its first row. */
function walk(steps) {
  const links = rows();
  const row = document.activeElement.closest("table[data-keys] tbody tr");
  const here = row ? links.findIndex((link) => row.contains(link)) : -1;
  const there = here < 0 ? 0 : Math.min(Math.max(here + steps, 0), links.length - 1);
  links[there]?.focus();
  links[there]?.closest("tr").scrollIntoView({ block: "nearest" });
  return links.length > 0;
}

/** Close what is open: the list of runs, notices, the search. */
function close() {
  document.querySelectorAll("details.switch[open]").forEach((one) => one.removeAttribute("open"));
  document.getElementById("notices").replaceChildren();
  document.activeElement.blur();
}

const KEYS = {
  "?": () => document.getElementById("keys").showModal(),
  "/": () => document.querySelector("input[type=search]")?.focus(),
  g: () => { go.waiting = true; setTimeout(() => { go.waiting = false; }, 1200); },
  j: () => walk(1),
  k: () => walk(-1),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") { close(); return; }
  if (event.defaultPrevented || writes(event)) return;
  if (go.waiting) {
    go.waiting = false;
    const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); event.stopImmediatePropagation(); link.click(); return; }
  }
  const arrow = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (arrow && event.target.closest("table[data-keys]")) { event.preventDefault(); walk(arrow); }
  if (Object.hasOwn(KEYS, event.key)) { event.preventDefault(); KEYS[event.key](); }
}, true);

document.querySelector("[data-keys-button]").addEventListener("click", KEYS["?"]);
document.querySelector("[data-back]").form.addEventListener("submit", (event) => {
  event.target.querySelector("[data-back]").value = location.pathname + location.search;
});
document.addEventListener("click", (event) => {
  document.querySelectorAll("details.switch[open]").forEach((one) => { if (!one.contains(event.target)) one.removeAttribute("open"); });
});

// A notice stays until what failed works again.
const failed = new Set();
const path = (event) => event.detail.pathInfo?.requestPath;

document.addEventListener("htmx:sendError", (event) => {
  failed.add(path(event));
  document.getElementById("notices").replaceChildren(document.getElementById("unanswered").content.cloneNode(true));
});
document.addEventListener("htmx:responseError", (event) => failed.add(path(event)));
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && failed.delete(path(event))) document.getElementById("notices").replaceChildren();
});
