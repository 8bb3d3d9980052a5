// The selection of candidates. It is kept while the table is paged, sorted and filtered, and while one looks at a candidate and comes back;
// what is not on this page of the table is sent along with what is.
"use strict";

const KEPT = `selected:${document.getElementById("selection").dataset.run}`;
const chosen = new Set(JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"));
let last = null;

/** The boxes of the rows that the table shows. */
function boxes() {
  return [...document.querySelectorAll('#selection tbody input[name="ids"]')];
}

/** Show what is chosen. */
function show() {
  const here = boxes();
  const on = here.filter((box) => chosen.has(box.value));
  for (const box of here) {
    box.checked = chosen.has(box.value);
    box.closest("tr").setAttribute("aria-selected", box.checked);
  }
  const every = document.querySelector("#selection [data-every]");
  if (!every) return;
  every.checked = on.length > 0 && on.length === here.length;
  every.indeterminate = on.length > 0 && on.length < here.length;
  const told = document.getElementById("selected");
  told.textContent = told.dataset.phrase.replace("#", chosen.size);
  for (const button of told.parentElement.querySelectorAll("button")) button.disabled = chosen.size === 0;
  told.parentElement.querySelector("[data-clear]").hidden = chosen.size === 0;
}

function choose(some, on) {
  for (const box of some) {
    if (on) chosen.add(box.value);
    else chosen.delete(box.value);
  }
  keep();
}

function clear() {
  chosen.clear();
  keep();
}

function keep() {
  sessionStorage.setItem(KEPT, JSON.stringify([...chosen]));
  show();
}

/** The boxes from the one that was clicked last to this one. */
function range(box) {
  const here = boxes();
  const [first, end] = [here.indexOf(last), here.indexOf(box)].sort((one, other) => one - other);
  return first < 0 ? [box] : here.slice(first, end + 1);
}

document.addEventListener("click", (event) => {
  const at = event.target;
  if (at.matches("#selection [data-every]")) choose(boxes(), at.checked);
  if (at.matches("#selection [data-clear]")) clear();
  if (at.matches('#selection input[name="ids"]')) {
    choose(event.shiftKey ? range(at) : [at], at.checked);
    last = at;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "x" || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const box = event.target.closest("#selection tbody tr")?.querySelector('input[name="ids"]');
  if (!box) return;
  choose([box], !box.checked);
  last = box;
});

document.addEventListener("formdata", (event) => {
  if (event.target.id !== "selection") return;
  const here = new Set(boxes().map((box) => box.value));
  for (const id of chosen) if (!here.has(id)) event.formData.append("ids", id);
});

// A page that takes the place of this one leaves alone what is being typed, and what was opened or closed.
Idiomorph.defaults.ignoreActiveValue = true;
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.matches("details"));

document.addEventListener("htmx:afterSettle", show);
window.addEventListener("pageshow", show);
